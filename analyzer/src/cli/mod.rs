//! The command line: one file per command. Data goes to stdout, messages go to stderr.

mod compare;
mod config;
mod console;
mod cycles;
mod inspect;
mod ladder;
mod merge;
mod overrides;
mod projection;
mod replay;
mod replay_notes;
mod replay_text;
mod report;
mod search;
mod search_accuracy;
mod search_text;
mod sweep;
mod vectors;
mod verify;
mod work;

pub use console::{Console, Host, Terminal};

use clap::{CommandFactory, Parser, Subcommand};
use mercury_cli::{Completions, Man, Messages};
use mercury_reuse::cpu;
use std::ffi::OsString;
use std::io;

/// Would input-similarity reuse speed up training of this model, and what would it cost in accuracy?
///
/// Replays traces of `mercury-tracer` through random-projection signatures, a signature cache
/// (MCACHE) and a systolic timing model.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = AFTER)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    messages: Messages,
}

const AFTER: &str = "Examples:
  mercury-analyzer inspect trace
  mercury-analyzer replay trace --out results
  mercury-analyzer report results --trace trace --out report.html

Exit codes:
  0  done
  1  a threshold of `compare` is crossed
  2  invalid input, or a failure that the message explains

Colours and progress appear only on a terminal; NO_COLOR=1 turns colours off.";

/// The note that is printed where results of different arrays are compared.
const UNLIKE_BASELINES: &str =
    "baselines differ, so speed-ups cannot be compared across arrays: compare mercury_cycles instead";

/// Shown instead of a probe's command for other programs' models.
const ONLY_TRACER: &str = "`mercury-tracer train --probe`, for its own models";

/// The note that is printed beside the intervals of a single projection.
const ONE_PROJECTION: &str =
    "intervals cover captured samples, not the draw of the projection; --seeds 6 evaluates six and covers both";

const COMPLETIONS: &str = "Examples:
  mercury-analyzer completions bash > ~/.local/share/bash-completion/completions/mercury-analyzer
  mercury-analyzer completions zsh > ~/.zfunc/_mercury-analyzer      # where fpath has ~/.zfunc
  mercury-analyzer completions fish > ~/.config/fish/completions/mercury-analyzer.fish
  mercury-analyzer completions powershell >> $PROFILE";

#[derive(Debug, Subcommand)]
enum Command {
    Inspect(inspect::Inspect),
    Replay(Box<replay::Replay>),
    Merge(merge::Merge),
    Sweep(Box<sweep::Sweep>),
    Search(Box<search::Search>),
    Ladder(Box<ladder::Ladder>),
    Compare(compare::Compare),
    Report(report::Report),
    Verify(verify::Verify),
    Vectors(Box<vectors::Vectors>),
    Projection(projection::Projection),
    Cycles(cycles::Cycles),
    Config(config::ConfigCommand),
    #[command(after_help = COMPLETIONS)]
    Completions(Completions),
    #[command(after_help = "Example: mercury-analyzer man --out ~/.local/share/man/man1")]
    Man(Man),
}

impl Cli {
    /// Runs the command on a terminal, with logging.
    pub fn run_on_terminal(self) -> anyhow::Result<u8> {
        self.messages.log();
        let terminal = Terminal::new(self.messages);
        self.run(Console::new(&terminal))
    }

    /// Runs the command; its output goes to the console. Returns the exit code.
    pub fn run(self, console: Console) -> anyhow::Result<u8> {
        cpu::Instructions::from_environment().map_err(anyhow::Error::msg)?;
        match self.command {
            Command::Compare(compare) => return compare.run(console),
            Command::Inspect(inspect) => inspect.run(console)?,
            Command::Replay(replay) => replay.run(console)?,
            Command::Merge(merge) => merge.run(console)?,
            Command::Sweep(sweep) => sweep.run(console)?,
            Command::Search(search) => search.run(console)?,
            Command::Ladder(ladder) => ladder.run(console)?,
            Command::Report(report) => report.run(console)?,
            Command::Verify(verify) => verify.run(console)?,
            Command::Vectors(vectors) => vectors.run()?,
            Command::Projection(projection) => projection.run()?,
            Command::Cycles(cycles) => cycles.run(console)?,
            Command::Config(config) => config.run(console)?,
            Command::Completions(completions) => completions.run(Self::command())?,
            Command::Man(man) => man.run(Self::command())?,
        }
        Ok(0)
    }
}

/// Runs the program with these arguments, of which the first is its name; errors go to stderr. Returns the exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let parsed = match Cli::try_parse_from(arguments) {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help and versions are such errors, too.
            let _ = error.print();
            return error.exit_code() as u8;
        }
    };
    match parsed.run_on_terminal() {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => 0,
        Err(error) => {
            eprintln!("error: {error:#}");
            2
        }
    }
}

/// Whether the reader of our output has closed the pipe, as in `| head`. That is not a failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe))
}
