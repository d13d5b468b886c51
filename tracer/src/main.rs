//! `mercury-tracer`: see `mercury-tracer --help`.

use clap::Parser;
use mercury_tracer::cli::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    // What happens inside, for whoever asks by RUST_LOG=info (or debug); to stderr.
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
