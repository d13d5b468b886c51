//! `completions` and `man`: the command line for a shell and for `man`.

use super::Cli;
use anyhow::{Context, Result};
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::fs;
use std::path::PathBuf;

const NAME: &str = "mercury-analyzer";

const COMPLETIONS: &str = "Examples:
  mercury-analyzer completions bash > ~/.local/share/bash-completion/completions/mercury-analyzer
  mercury-analyzer completions zsh > ~/.zfunc/_mercury-analyzer      # where fpath has ~/.zfunc
  mercury-analyzer completions fish > ~/.config/fish/completions/mercury-analyzer.fish
  mercury-analyzer completions powershell >> $PROFILE";

/// Print the completions for a shell.
#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS)]
pub struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    /// Prints them.
    pub fn run(&self) -> Result<()> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), NAME, &mut text);
        std::io::Write::write_all(&mut std::io::stdout(), &text)?;
        Ok(())
    }
}

/// Write the manual pages: one of the program and one of each command.
#[derive(Debug, Args)]
#[command(after_help = "Example: mercury-analyzer man --out ~/.local/share/man/man1")]
pub struct Man {
    /// Folder for the pages; it is made if it is missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Man {
    /// Writes them.
    pub fn run(&self) -> Result<()> {
        let out = self.out.display();
        fs::create_dir_all(&self.out).with_context(|| format!("--out: {out} cannot be made; choose another folder"))?;
        clap_mangen::generate_to(Cli::command(), &self.out)
            .with_context(|| format!("--out: {out} cannot be written to; choose another folder"))
    }
}
