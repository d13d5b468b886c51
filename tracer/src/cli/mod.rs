//! The command line, with one file per command. Data goes to stdout, messages to stderr.

mod arguments;
mod capture;
mod device;
mod evaluate;
mod groups;
mod lists;
mod model;
mod resumed;
mod reuse;
mod run;
mod terminal;
mod train;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use mercury_cli::{Completions, Man, Messages, collect_given_flags};
use mercury_reuse::cpu;

/// Trains models on libtorch and captures the operands of their layers.
///
/// It writes a trace: a folder of Parquet files, which `mercury-analyzer` replays.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = AFTER)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    messages: Messages,
}

const AFTER: &str = "Examples:
  mercury-tracer models
  mercury-tracer capture --model vgg13 --dataset fashion-mnist --out trace --steps 101 --capture every=50

Exit codes:
  0  done
  2  invalid input, or a failure that the message explains

Colours and progress bars appear only on a terminal; NO_COLOR=1 turns colours off.";

const COMPLETIONS: &str = "Examples:
  mercury-tracer completions bash > ~/.local/share/bash-completion/completions/mercury-tracer
  mercury-tracer completions zsh > ~/.zfunc/_mercury-tracer      # if fpath contains ~/.zfunc
  mercury-tracer completions fish > ~/.config/fish/completions/mercury-tracer.fish
  mercury-tracer completions powershell >> $PROFILE";

#[derive(Debug, Subcommand)]
enum Command {
    Capture(Box<capture::Capture>),
    Train(Box<train::Train>),
    Evaluate(Box<evaluate::Evaluate>),
    Models(lists::Models),
    Datasets(lists::Datasets),
    #[command(after_help = COMPLETIONS)]
    Completions(Completions),
    #[command(after_help = "Example: mercury-tracer man --out ~/.local/share/man/man1")]
    Man(Man),
}

impl Cli {
    /// Parses the command line; ends the program with a message if it is invalid.
    pub fn read() -> Self {
        let matches = Self::command().get_matches();
        let mut cli = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        match &mut cli.command {
            Command::Capture(capture) => capture.run.command = format_command(&matches),
            Command::Train(train) => train.run.command = format_command(&matches),
            _ => (),
        }
        cli
    }

    /// Runs the command.
    pub fn run(self) -> anyhow::Result<()> {
        let messages = self.messages;
        messages.log();
        cpu::Instructions::from_environment().map_err(anyhow::Error::msg)?;
        tch::set_num_interop_threads(1);
        match self.command {
            Command::Capture(capture) => capture.run(messages),
            Command::Train(train) => run_on_worker(|| train.run(messages)),
            Command::Evaluate(evaluate) => run_on_worker(|| evaluate.run(messages)),
            Command::Models(_) => lists::Models::run(),
            Command::Datasets(_) => lists::Datasets::run(),
            Command::Completions(completions) => completions.run(Self::command()),
            Command::Man(man) => man.run(Self::command()),
        }
    }
}

/// Flags that do not affect the trace: paths on this machine, checkpoints and messages.
const FLAGS_WITHOUT_EFFECT: [&str; 8] =
    ["out", "resume", "data_dir", "save", "checkpoint_every", "on_capture_error", "quiet", "verbose"];

/// Formats the command for the manifest, with TRACE for the output folder.
fn format_command(matches: &ArgMatches) -> String {
    let (name, given) = matches.subcommand().expect("a command is required");
    let mut program = Cli::command();
    program.build();
    let command = program.find_subcommand(name).expect("the command was found before");
    let flags = collect_given_flags(command, given, &FLAGS_WITHOUT_EFFECT);
    format!("mercury-tracer {name} --out TRACE {}", flags.join(" "))
}

/// Runs a command on a worker thread of the pool that reuse uses.
///
/// From another thread, each of a step's many small products would have to be sent to the pool.
fn run_on_worker(work: impl FnOnce() -> anyhow::Result<()> + Send) -> anyhow::Result<()> {
    // The stack size of a program's main thread.
    rayon::ThreadPoolBuilder::new().stack_size(8 << 20).build()?.install(work)
}
