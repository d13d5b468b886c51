//! `completions` and `man`: shell completions and manual pages.

use anyhow::{Context, Result};
use clap::{Args, Command};
use clap_complete::Shell;
use std::fs;
use std::path::PathBuf;

/// Print completions for a shell.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    /// Prints the completions of a program.
    pub fn run(&self, mut program: Command) -> Result<()> {
        let (name, mut text) = (program.get_name().to_owned(), Vec::new());
        clap_complete::generate(self.shell, &mut program, name, &mut text);
        std::io::Write::write_all(&mut std::io::stdout(), &text)?;
        Ok(())
    }
}

/// Write manual pages: one for the program and one per command.
#[derive(Debug, Args)]
pub struct Man {
    /// Folder for the pages; it is created if missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Man {
    /// Writes the manual pages of a program.
    pub fn run(&self, program: Command) -> Result<()> {
        let out = self.out.display();
        fs::create_dir_all(&self.out)
            .with_context(|| format!("--out: {out} cannot be created; choose another folder"))?;
        clap_mangen::generate_to(program, &self.out)
            .with_context(|| format!("--out: {out} cannot be written to; choose another folder"))
    }
}
