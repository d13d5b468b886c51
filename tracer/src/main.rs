//! `mercury-tracer`: see `mercury-tracer --help`.

#![forbid(unsafe_code)]

use mercury_tracer::cli::Cli;
use std::panic::PanicHookInfo;
use std::process::ExitCode;

fn main() -> ExitCode {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| match extract_libtorch_error(panic) {
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

/// Extracts libtorch's message from a panic of tch.
fn extract_libtorch_error(panic: &PanicHookInfo) -> Option<String> {
    let message = panic.payload().downcast_ref::<String>()?;
    let (_, error) = message.split_once("Torch(\"")?;
    // The library's stack follows after an escaped newline.
    Some(error.split("\\n").next().unwrap_or(error).to_owned())
}
