//! `mercury-tracer`: see `mercury-tracer --help`.

#![forbid(unsafe_code)]

use mercury_tracer::cli::Cli;
use std::panic::PanicHookInfo;
use std::process::ExitCode;

fn main() -> ExitCode {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| match refusal_of_libtorch(panic) {
        Some(reason) => eprintln!(
            "error: libtorch: {reason}\nIf it ran out of memory, lower --batch-size, --input-size or --max-length."
        ),
        None => default(panic),
    }));
    match std::panic::catch_unwind(|| Cli::read().run()) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
        Err(_) => ExitCode::from(2),
    }
}

/// What libtorch said, where a call of it failed that tch takes to succeed.
fn refusal_of_libtorch(panic: &PanicHookInfo) -> Option<String> {
    let message = panic.payload().downcast_ref::<String>()?;
    let (_, said) = message.split_once("Torch(\"")?;
    // The stack of the library follows, behind an escaped newline.
    Some(said.split("\\n").next().unwrap_or(said).to_owned())
}
