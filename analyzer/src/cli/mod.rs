//! The command line, one file a command. Data goes to stdout, messages to stderr.

mod compare;
mod cycles;
mod inspect;
mod merge;
mod overrides;
mod projection;
mod replay;
mod report;
mod sweep;
mod vectors;
mod verify;
mod work;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Would input-similarity reuse speed up training of this model, and what would it cost in accuracy?
///
/// Replays traces of `mercury-tracer` through random-projection signatures, a signature cache
/// (MCACHE) and a systolic timing model.
/// Exit codes: 0 done, 1 results differ by more than `compare` was told to accept, 2 wrong input or a failure that the message explains.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Inspect(inspect::Inspect),
    Replay(Box<replay::Replay>),
    Merge(merge::Merge),
    Sweep(Box<sweep::Sweep>),
    Compare(compare::Compare),
    Verify(verify::Verify),
    Vectors(Box<vectors::Vectors>),
    Projection(projection::Projection),
    Cycles(cycles::Cycles),
}

impl Cli {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Compare(compare) => return compare.run(),
            Command::Inspect(inspect) => inspect.run()?,
            Command::Replay(replay) => replay.run()?,
            Command::Merge(merge) => merge.run()?,
            Command::Sweep(sweep) => sweep.run()?,
            Command::Verify(verify) => verify.run()?,
            Command::Vectors(vectors) => vectors.run()?,
            Command::Projection(projection) => projection.run()?,
            Command::Cycles(cycles) => cycles.run()?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
