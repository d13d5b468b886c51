//! `config`: what a configuration comes to, and where its values are from.

use super::overrides::{Configuration, KEYS, Overrides};
use crate::config::{Config, DEFAULT_PRESET, PRESETS};
use crate::error::Result as AnalyzerResult;
use crate::export::{self, Align, Format, text_table};
use anyhow::Result;
use clap::{Args, Subcommand};
use polars::prelude::{Column, DataFrame};
use std::io::Write;
use std::path::PathBuf;
use toml::{Table, Value};

/// Show, check and list configurations.
#[derive(Debug, Args)]
pub struct ConfigCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Show(Box<Show>),
    Check(Check),
    Presets(Presets),
    Reference(Reference),
}

/// Print the configuration that preset, file and flags come to, and where each value is from.
///
/// As a table it is a configuration file: what it prints can be given to --config.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mercury-analyzer config show --preset patch-os --rpq.bits 32\n  \
                        mercury-analyzer config show --config my.toml --format csv")]
struct Show {
    /// What to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    configuration: Configuration,
}

/// Check a configuration file, and say what in it differs from the defaults.
#[derive(Debug, Args)]
#[command(after_help = "Example: mercury-analyzer config check my.toml")]
struct Check {
    /// The file (TOML).
    file: PathBuf,
}

/// List the configurations that come with the program.
#[derive(Debug, Args)]
#[command(after_help = "Example: mercury-analyzer config presets")]
struct Presets {}

/// Print the reference of all keys (Markdown): docs/configuration.md.
#[derive(Debug, Args)]
#[command(after_help = "Example: mercury-analyzer config reference > docs/configuration.md")]
struct Reference {}

impl ConfigCommand {
    /// Does what was asked for.
    pub fn run(self) -> Result<()> {
        match self.action {
            Action::Show(show) => show.run(),
            Action::Check(check) => check.run(),
            Action::Presets(_) => presets(),
            Action::Reference(_) => reference(),
        }
    }
}

/// A key, its value in the configuration, and where that is from.
struct Resolved {
    key: &'static str,
    value: Option<Value>,
    source: String,
}

impl Show {
    fn run(self) -> Result<()> {
        let (origin, table) = self.configuration.base()?;
        let keys = resolved(&self.configuration.clone().resolve()?, &origin, &table, self.configuration.overrides());
        if self.format == Format::Table {
            std::io::stdout().write_all(as_toml(&keys).as_bytes())?;
            return Ok(());
        }
        let value = |key: &Resolved| key.value.as_ref().map(Value::to_string);
        let mut frame = DataFrame::new(
            keys.len(),
            vec![
                Column::new("key".into(), keys.iter().map(|key| key.key).collect::<Vec<_>>()),
                Column::new("value".into(), keys.iter().map(value).collect::<Vec<_>>()),
                Column::new("source".into(), keys.iter().map(|key| key.source.as_str()).collect::<Vec<_>>()),
            ],
        )?;
        export::print(&mut frame, self.format)
    }
}

fn resolved(config: &Config, origin: &str, table: &Table, overrides: &Overrides) -> Vec<Resolved> {
    let values = Table::try_from(config).expect("a configuration is a table");
    let find = |table: &Table, key: &str| {
        let (section, name) = key.split_once('.')?;
        table.get(section)?.get(name).cloned()
    };
    let of_key = |&(key, ..): &(&'static str, &str, &str)| {
        let source = if overrides.iter().any(|(flag, _)| *flag == key) {
            format!("flag --{key}")
        } else if find(table, key).is_some() {
            origin.to_owned()
        } else {
            "default".to_owned()
        };
        Resolved { key, value: find(&values, key), source }
    };
    KEYS.iter().map(of_key).collect()
}

/// A configuration file with the sources as comments.
fn as_toml(keys: &[Resolved]) -> String {
    let line = |key: &Resolved| {
        let name = key.key.split_once('.').map_or(key.key, |(_, name)| name);
        match &key.value {
            Some(value) => format!("{name} = {value}"),
            None => format!("# {name} is not set"),
        }
    };
    let width = keys.iter().map(|key| line(key).len()).max().unwrap_or(0);
    let section = |key: &Resolved| key.key.split_once('.').map_or("", |(section, _)| section);
    let mut text = String::new();
    for of_section in keys.chunk_by(|a, b| section(a) == section(b)) {
        text += &format!("{}[{}]\n", if text.is_empty() { "" } else { "\n" }, section(&of_section[0]));
        for key in of_section {
            text += &format!("{:width$}  # {}\n", line(key), key.source);
        }
    }
    text
}

impl Check {
    fn run(self) -> Result<()> {
        let origin = self.file.display().to_string();
        let table = Config::file(&self.file)?;
        let config = Config::resolve(&origin, table, &[])?;
        let mut stdout = std::io::stdout();
        let changed = changed(&config)?;
        let count = match changed.len() {
            0 => "as the defaults".to_owned(),
            1 => "1 key differs from the defaults".to_owned(),
            count => format!("{count} keys differ from the defaults"),
        };
        writeln!(stdout, "{origin}: valid, {count}")?;
        if !changed.is_empty() {
            let columns = [("key", Align::Left), ("value", Align::Left), ("default", Align::Left)];
            stdout.write_all(text_table(&columns, changed).as_bytes())?;
        }
        Ok(())
    }
}

/// Keys, values and defaults where they differ.
fn changed(config: &Config) -> AnalyzerResult<Vec<Vec<String>>> {
    let preset = Config::resolve(DEFAULT_PRESET, Config::preset(DEFAULT_PRESET)?, &[])?;
    let [ours, theirs] = [config, &preset].map(|config| resolved(config, "", &Table::new(), &Vec::new()));
    let text = |key: &Resolved| key.value.as_ref().map_or_else(|| "not set".to_owned(), Value::to_string);
    let differing = ours.iter().zip(&theirs).filter(|(ours, theirs)| ours.value != theirs.value);
    Ok(differing.map(|(ours, theirs)| vec![ours.key.to_owned(), text(ours), text(theirs)]).collect())
}

/// The first paragraph of a preset's file, which describes the preset.
fn about(text: &str) -> String {
    let lines = text.lines().map_while(|line| line.strip_prefix("# "));
    lines.collect::<Vec<_>>().join(" ")
}

fn presets() -> Result<()> {
    let name = |name: &str| if name == DEFAULT_PRESET { format!("{name} (default)") } else { name.to_owned() };
    let rows = PRESETS.iter().map(|&(preset, text)| vec![name(preset), about(text)]);
    let table = text_table(&[("preset", Align::Left), ("meaning", Align::Left)], rows);
    std::io::stdout().write_all(table.as_bytes())?;
    Ok(())
}

/// Sections of a configuration, and what their keys are about.
const SECTIONS: &[(&str, &str)] = &[
    ("rpq", "Signatures: cutting vectors, projection, quantisation."),
    ("mcache", "MCACHE, the cache of signatures and results."),
    ("array", "The array and its dataflow."),
    ("reuse", "Passes with reuse."),
    ("bits", "Growth of signatures while the training loss does not improve."),
    ("stop", "Switching layers off that reuse makes slower."),
    ("bounds", "Bounds and competitors (`replay --with bounds`). These keys do not affect hits, errors or cycles."),
    ("memory", "Global buffer and DRAM."),
    ("energy", "Energy of each access, in any common unit; by default relative to one multiply-accumulate."),
];

/// The reference of all keys.
fn reference() -> Result<()> {
    let defaults = resolved(&Config::default(), "", &Table::new(), &Vec::new());
    let mut text = REFERENCE.to_owned();
    for (section, about) in SECTIONS {
        text += &format!(
            "\n## `[{section}]`\n\n{about}\n\n| key | value | default | meaning |\n| --- | --- | --- | --- |\n"
        );
        let of_section = KEYS.iter().zip(&defaults).filter(|((key, ..), _)| key.split('.').next() == Some(section));
        for ((key, value, help), default) in of_section {
            // The help of a flag may end with its default, which has a column here.
            let (help, said) = help
                .split_once(" [default: ")
                .map_or((*help, None), |(help, rest)| (help, Some(rest.trim_end_matches(']'))));
            let default = default.value.as_ref().map_or_else(|| said.unwrap_or("").to_owned(), Value::to_string);
            text += &format!("| `{key}` | {value} | `{default}` | {help} |\n");
        }
    }
    text += "\n## Presets\n";
    for (name, file) in PRESETS {
        let table = Config::preset(name)?;
        let changed = changed(&Config::resolve(name, table, &[])?)?;
        text += &format!("\n### `{name}`\n\n{}\n", about(file));
        if changed.is_empty() {
            text += "\nThe defaults.\n";
            continue;
        }
        text += "\n| key | value | default |\n| --- | --- | --- |\n";
        for row in changed {
            text += &format!("| `{}` | `{}` | `{}` |\n", row[0], row[1], row[2]);
        }
    }
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

const REFERENCE: &str = "# Configuration

Written by `mercury-analyzer config reference`; a test keeps it current.

A configuration is a TOML file with one table per section below. Missing keys have their defaults, and an unknown key is
an error.

- `mercury-analyzer` takes a file by `--config`, a built-in configuration by `--preset`, and each key as a flag
  (`--rpq.bits 32`). Flags override the file.
- `mercury-analyzer sweep --set` takes lists and ranges of a key (`--set rpq.bits=8..=64:4`).
- `mercury-tracer train --reuse` takes the same files and presets, and `--set rpq.bits=32`.
- `mercury-analyzer config show` prints each value in force and its origin. `config check FILE` prints the values that a
  file changes.

In the column `value`, N is a whole number, X a number, B `true` or `false`. For other letters the last column lists the
values.
";
