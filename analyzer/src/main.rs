//! The program `mercury-analyzer`; `mercury-analyzer --help` describes it.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    mercury_analyzer::cli::main(std::env::args_os()).into()
}
