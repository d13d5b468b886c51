//! `config`: shows, checks and lists configurations.

use super::console::Console;
use super::overrides::{Configuration, KEYS, Overrides};
use crate::config::{Config, DEFAULT_PRESET, PRESETS};
use crate::error::Result as AnalyzerResult;
use crate::export::{Align, Format, text_table};
use crate::layer_settings::{LayerSettings, format_setting, list_layer_settings};
use anyhow::Result;
use clap::{Args, Subcommand};
use mercury_trace::Trace;
use polars::prelude::{Column, DataFrame};
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

/// Print the configuration that results from preset, file and flags, with the source of each value.
///
/// The table format is a valid configuration file for --config.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mercury-analyzer config show --preset patch-os --rpq.bits 32\n  \
                        mercury-analyzer config show --config my.toml --format csv")]
struct Show {
    /// Print the settings of each layer of this trace's model instead, with the `[[layer]]` tables applied.
    #[arg(long, value_name = "TRACE")]
    layers: Option<PathBuf>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    configuration: Configuration,
}

/// Check a configuration file and print the keys that differ from the defaults.
#[derive(Debug, Args)]
#[command(after_help = "Example: mercury-analyzer config check my.toml")]
struct Check {
    /// Configuration file (TOML).
    file: PathBuf,
}

/// List the built-in configurations.
#[derive(Debug, Args)]
#[command(after_help = "Example: mercury-analyzer config presets")]
struct Presets {}

/// Print the reference of all keys as Markdown (docs/configuration.md).
#[derive(Debug, Args)]
#[command(after_help = "Example: mercury-analyzer config reference > docs/configuration.md")]
struct Reference {}

impl ConfigCommand {
    /// Runs the chosen action.
    pub fn run(self, console: Console) -> Result<()> {
        match self.action {
            Action::Show(show) => show.run(console),
            Action::Check(check) => check.run(console),
            Action::Presets(_) => print_presets(console),
            Action::Reference(_) => print_reference(console),
        }
    }
}

/// A key with its value in the resolved configuration.
struct ResolvedKey {
    key: &'static str,
    /// `None` if the key is not set.
    value: Option<Value>,
    /// Where the value comes from: a flag, the preset or file, or the defaults.
    source: String,
}

impl Show {
    fn run(self, console: Console) -> Result<()> {
        let (origin, table) = self.configuration.base()?;
        let config = self.configuration.clone().resolve()?;
        if let Some(trace) = &self.layers {
            return print_layers(&config, &Trace::open(trace)?, self.format, console);
        }
        let keys = resolve_keys(&config, &origin, &table, self.configuration.overrides());
        if self.format == Format::Table {
            let model = config.model.iter().map(|model| format!("model = {}\n\n", Value::from(model.as_str())));
            let text = model.collect::<String>() + &format_toml(&keys) + &format_layers(&config)?;
            return console.print(&text);
        }
        let names: Vec<&str> = keys.iter().map(|key| key.key).collect();
        let values: Vec<Option<String>> = keys.iter().map(|key| key.value.as_ref().map(Value::to_string)).collect();
        let sources: Vec<&str> = keys.iter().map(|key| key.source.as_str()).collect();
        let frame = DataFrame::new(
            keys.len(),
            vec![
                Column::new("key".into(), names),
                Column::new("value".into(), values),
                Column::new("source".into(), sources),
            ],
        )?;
        console.print_table(&frame, self.format)
    }
}

/// Prints the settings of each layer.
fn print_layers(config: &Config, trace: &Trace, format: Format, console: Console) -> Result<()> {
    config.check_layers(&trace.manifest().model.name, trace.layers())?;
    let rows = list_layer_settings(0, config, trace.layers());
    let text = |name: &str, value: fn(&LayerSettings) -> String| {
        Column::new(name.into(), rows.iter().map(value).collect::<Vec<String>>())
    };
    let frame = DataFrame::new(
        rows.len(),
        vec![
            text("layer", |row| row.layer.clone()),
            text("pass", |row| row.pass.name().to_owned()),
            text("reuse.passes", format_reused),
            Column::new("rpq.bits".into(), rows.iter().map(|row| u64::from(row.bits)).collect::<Vec<u64>>()),
            text("rpq.granularity", |row| format_setting(&row.settings.granularity)),
            text("rpq.variant", |row| format_setting(&row.settings.variant)),
            text("rpq.projection", |row| format_setting(&row.settings.projection)),
            Column::new("rpq.seed".into(), rows.iter().map(|row| row.settings.seed).collect::<Vec<u64>>()),
            text("mcache.representative", |row| format_setting(&row.settings.representative)),
            text("mcache.scope", |row| format_setting(&row.settings.scope)),
        ],
    )?;
    console.print_table(&frame, format)
}

/// The passes with reuse, or `off`.
fn format_reused(row: &LayerSettings) -> String {
    if row.reuse.is_empty() {
        return "off".to_owned();
    }
    row.reuse.iter().map(|pass| pass.name()).collect::<Vec<_>>().join(",")
}

/// The `[[layer]]` tables of a configuration, as a file has them.
fn format_layers(config: &Config) -> Result<String> {
    if config.layer.is_empty() {
        return Ok(String::new());
    }
    let tables = Table::from_iter([("layer".to_owned(), Value::try_from(&config.layer)?)]);
    Ok(format!("\n{tables}"))
}

/// The value of a key such as `rpq.bits` in a configuration's table.
fn find_value(table: &Table, key: &str) -> Option<Value> {
    let (section, name) = key.split_once('.')?;
    table.get(section)?.get(name).cloned()
}

fn resolve_keys(config: &Config, origin: &str, table: &Table, overrides: &Overrides) -> Vec<ResolvedKey> {
    let values = Table::try_from(config).expect("a configuration is a table");
    let mut keys = Vec::new();
    for &(key, ..) in KEYS {
        let source = if overrides.iter().any(|(flag, _)| *flag == key) {
            format!("flag --{key}")
        } else if find_value(table, key).is_some() {
            origin.to_owned()
        } else {
            "default".to_owned()
        };
        keys.push(ResolvedKey { key, value: find_value(&values, key), source });
    }
    keys
}

/// A line of a configuration file; a comment if the key is not set.
fn format_line(key: &ResolvedKey) -> String {
    let name = key.key.split_once('.').map_or(key.key, |(_, name)| name);
    match &key.value {
        Some(value) => format!("{name} = {value}"),
        None => format!("# {name} is not set"),
    }
}

/// A configuration file with the sources as comments.
fn format_toml(keys: &[ResolvedKey]) -> String {
    let width = keys.iter().map(|key| format_line(key).len()).max().unwrap_or(0);
    let section = |key: &ResolvedKey| key.key.split_once('.').map_or("", |(section, _)| section);
    let mut text = String::new();
    for section_keys in keys.chunk_by(|a, b| section(a) == section(b)) {
        text += &format!("{}[{}]\n", if text.is_empty() { "" } else { "\n" }, section(&section_keys[0]));
        for key in section_keys {
            text += &format!("{:width$}  # {}\n", format_line(key), key.source);
        }
    }
    text
}

impl Check {
    fn run(self, console: Console) -> Result<()> {
        let origin = self.file.display().to_string();
        let table = Config::file(&self.file)?;
        let config = Config::resolve(&origin, table, &[])?;
        let changed = list_changes(&config)?;
        let count = match changed.len() {
            0 => "equal to the defaults".to_owned(),
            1 => "1 key differs from the defaults".to_owned(),
            count => format!("{count} keys differ from the defaults"),
        };
        let count = match config.layer.len() {
            0 => count,
            1 => format!("{count}, 1 [[layer]] table"),
            tables => format!("{count}, {tables} [[layer]] tables"),
        };
        let mut text = format!("{origin}: valid, {count}\n");
        if let Some(model) = &config.model {
            text += &format!("for the layers of {model}\n");
        }
        if !changed.is_empty() {
            let columns = [("key", Align::Left), ("value", Align::Left), ("default", Align::Left)];
            text += &text_table(&columns, changed);
        }
        console.print(&text)
    }
}

/// Rows `[key, value, default]` of the keys whose value differs from the default.
fn list_changes(config: &Config) -> AnalyzerResult<Vec<Vec<String>>> {
    let preset = Config::resolve(DEFAULT_PRESET, Config::preset(DEFAULT_PRESET)?, &[])?;
    let keys = resolve_keys(config, "", &Table::new(), &Vec::new());
    let defaults = resolve_keys(&preset, "", &Table::new(), &Vec::new());
    let text = |key: &ResolvedKey| key.value.as_ref().map_or_else(|| "not set".to_owned(), Value::to_string);
    let differing = keys.iter().zip(&defaults).filter(|(key, default)| key.value != default.value);
    Ok(differing.map(|(key, default)| vec![key.key.to_owned(), text(key), text(default)]).collect())
}

/// The description of a preset: the first paragraph of its file.
fn read_description(text: &str) -> String {
    let lines = text.lines().map_while(|line| line.strip_prefix("# "));
    lines.collect::<Vec<_>>().join(" ")
}

fn print_presets(console: Console) -> Result<()> {
    let name = |name: &str| if name == DEFAULT_PRESET { format!("{name} (default)") } else { name.to_owned() };
    let rows = PRESETS.iter().map(|&(preset, text)| vec![name(preset), read_description(text)]);
    let table = text_table(&[("preset", Align::Left), ("description", Align::Left)], rows);
    console.print(&table)
}

/// The sections of a configuration, their descriptions, and their headings on the model's page.
const SECTIONS: &[(&str, &str, &str)] = &[
    ("rpq", "Signatures: how vectors are cut and projected.", "rpq-signatures"),
    ("mcache", "MCACHE, the cache of signatures and results.", "mcache"),
    ("array", "The array and its dataflow.", "time-matrix-products"),
    ("reuse", "The passes in which results are reused.", "what-reuse-does-to-each-pass"),
    ("bits", "Growth of signatures when the training loss stops improving.", "adaptation-during-training"),
    ("stop", "Switching off layers in which reuse does not save cycles.", "adaptation-during-training"),
    (
        "bounds",
        "Bounds and competitors of `replay --with bounds`. They do not change MERCURY's results.",
        "bounds-and-competitors",
    ),
    ("memory", "Global buffer and DRAM.", "memory-and-energy"),
    (
        "energy",
        "Energy per access. Only ratios matter: by default the unit is the energy of a multiply-accumulate.",
        "memory-and-energy",
    ),
];

/// Prints the reference of all keys and presets.
fn print_reference(console: Console) -> Result<()> {
    let defaults = resolve_keys(&Config::default(), "", &Table::new(), &Vec::new());
    let mut text = REFERENCE.to_owned();
    for (section, description, heading) in SECTIONS {
        text += &format!("\n## `[{section}]`\n\n{description} See [the model](model.md#{heading}).\n\n");
        text += "| key | value | default | description |\n| --- | --- | --- | --- |\n";
        for ((key, value, help), default) in KEYS.iter().zip(&defaults) {
            if key.split('.').next() != Some(section) {
                continue;
            }
            // A flag's help may end with its default, which has a column of its own here.
            let (help, default_in_help) = match help.split_once(" [default: ") {
                Some((help, rest)) => (help, rest.trim_end_matches(']')),
                None => (*help, ""),
            };
            let default = default.value.as_ref().map_or_else(|| default_in_help.to_owned(), Value::to_string);
            text += &format!("| `{key}` | {value} | `{default}` | {help} |\n");
        }
    }
    text += "\n## Presets\n";
    for (name, file) in PRESETS {
        let table = Config::preset(name)?;
        let changed = list_changes(&Config::resolve(name, table, &[])?)?;
        text += &format!("\n### `{name}`\n\n{}\n", read_description(file));
        if changed.is_empty() {
            text += "\nThe defaults.\n";
            continue;
        }
        text += "\n| key | value | default |\n| --- | --- | --- |\n";
        for row in changed {
            text += &format!("| `{}` | `{}` | `{}` |\n", row[0], row[1], row[2]);
        }
    }
    console.print(&text)
}

const REFERENCE: &str = "# Configuration

Written by `mercury-analyzer config reference`; a test keeps it current.

A configuration is a TOML file with one table per section below. Keys that the file leaves out have their defaults; an
unknown key is an error. `mercury-analyzer` reads a file with `--config` and a built-in configuration with `--preset`. Each
key is also a flag, such as `--rpq.bits 32`, which overrides the file. `mercury-tracer train --reuse` takes the same files
and presets, and `--set rpq.bits=32`. In `sweep`, `--set` takes lists and ranges (`--set rpq.bits=8..=64:4`).
`mercury-analyzer config show` prints the resolved configuration with the source of each value, and `config check FILE`
prints the keys that a file changes.

## `[[layer]]`

Layers may have settings of their own. Each `[[layer]]` table names layers by a pattern, and sets keys for them:

```toml
[[layer]]
name = \"features.*\"           # every layer whose name begins with features.
rpq.bits = 40
rpq.variant = \"sign+rescale\"

[[layer]]
name = \"features.2\"
passes = [\"input-grad\"]       # the forward pass, and the weight gradient that shares its signatures, stay as above
rpq.bits = 20

[[layer]]
name = \"classifier.*\"
reuse.passes = []              # no reuse
```

Of each key, the last matching table that has it wins. `passes` is `[\"forward\"]`, `[\"input-grad\"]` or both (the default).
The keys that a layer may have are `rpq.bits`, `rpq.seed`, `rpq.granularity`, `rpq.variant`, `rpq.projection`,
`mcache.representative`, `mcache.scope` and `reuse.passes`. All others are shared: there is one array, one memory and one MCACHE.
`mcache.scope` applies to convolutions. Flags change the shared keys, and what a layer's tables leave out. A pattern that
matches no layer of the model is an error. A top-level key `model = \"vgg16\"` limits a file to one model.
`mercury-analyzer config show --config FILE --layers TRACE` prints the settings of each layer, `mercury-analyzer search` writes
such a file.

## Projections from files

`rpq.projection = \"file:R.safetensors\"` takes the projection matrix from a file, for example a learned hash. The file is
in the safetensors format and holds f32 tensors `[length, bits]` of any names. An input vector times such a tensor gives the
dot products whose signs are the bits. In PyTorch, `safetensors.torch.save_file({\"R\": R}, \"R.safetensors\")` writes it.

- A vector uses the tensor with as many rows as it has elements; a file has one for each length. With `sub-vector(L)` that
  is the tensor with L rows. The shorter last sub-vector of a row uses its first rows, as if zeros filled the row up.
- A layer with reuse for whose vectors the file has no tensor is an error, before any work. Layers take files of their own,
  or drawn matrices, in `[[layer]]` tables.
- A signature uses the first `rpq.bits` columns. No tensor of the file may have fewer. Where signatures grow
  (`bits.patience`), they stop at the columns of the tensor with the fewest.
- `rpq.seed` does not change the signatures, so `--seeds` and a sweep over `rpq.seed` are errors. To compare matrices, sweep
  over files: `--set rpq.projection=file:a.safetensors,file:b.safetensors`.
- A path in a configuration file is relative to the folder of that file, a path in a flag to the working directory.
- Results hold the absolute path and a hash of the tensors, as in `file:/data/R.safetensors#0123456789abcdef`. If the tensors
  change, unfinished work does not continue. A configuration that has the hash, too, refuses other tensors.

In the column `value`, N is a whole number, X a number and B `true` or `false`. The descriptions list all other values.
";
