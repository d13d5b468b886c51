//! The configuration that training with reuse takes: the analyzer's file.

use crate::error::{Result, TracerError};
use globset::{GlobBuilder, GlobMatcher};
use mercury_reuse::config::{BitsConfig, McacheConfig, ReuseConfig, Rpq, Scheme, StopConfig};
use mercury_reuse::vectors_of_sample;
use mercury_trace::geometry::Pass;
use mercury_trace::layers::Layer;
use serde::Deserialize;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use toml::Table;

/// What of the analyzer's configuration decides what is computed. `array`, `bounds`, `memory` and
/// `energy` say what that would cost on hardware, so they are the analyzer's to check.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Signatures.
    pub rpq: Rpq,
    /// The signature cache.
    pub mcache: McacheConfig,
    /// Passes with reuse.
    pub reuse: ReuseConfig,
    /// Growth of signatures.
    pub bits: BitsConfig,
    /// Switching layers off, which takes a timing model; see [`Off`].
    pub stop: StopConfig,
    array: Table,
    bounds: Table,
    memory: Table,
    energy: Table,
}

impl Settings {
    /// These signatures, which do not grow, and this cache, in all passes.
    pub fn of(rpq: Rpq, mcache: McacheConfig) -> Self {
        let bits = BitsConfig { patience: 0, ..BitsConfig::default() };
        Self { rpq, mcache, bits, ..Self::default() }
    }
}

/// A configuration and what it is called in messages and tables.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    /// The file's name without `.toml`.
    pub name: String,
    /// What it says.
    pub settings: Settings,
    /// Its text, with what was set on top.
    pub text: String,
}

impl Named {
    /// Reads a file; the error names it and the key.
    pub fn read(flag: &'static str, path: &Path, overrides: &[Override]) -> Result<Self> {
        let bad = |reason: String| TracerError::File { flag, path: path.to_owned(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
        let said = |error: toml::de::Error| bad(error.to_string().trim_end().to_owned());
        // As it stands first, so that an error shows the line that is wrong.
        toml::from_str::<Settings>(&text).map_err(said)?;
        let mut table: Table = text.parse().map_err(said)?;
        for Override { section, key, value } in overrides {
            let section = table.entry(section).or_insert_with(|| Table::new().into());
            if let Some(section) = section.as_table_mut() {
                section.insert(key.clone(), value.clone());
            }
        }
        let text = table.to_string();
        let settings: Settings = table.try_into().map_err(|error: toml::de::Error| TracerError::Flag {
            flag: "--set",
            reason: error.message().to_owned(),
        })?;
        let scheme = Scheme { rpq: settings.rpq.clone(), mcache: settings.mcache.clone() };
        let checks = [scheme.validate(), settings.bits.validate(), settings.reuse.validate()];
        checks.into_iter().collect::<std::result::Result<(), _>>().map_err(|error| bad(error.to_string()))?;
        let name = path.file_stem().map_or_else(|| path.to_string_lossy(), |stem| stem.to_string_lossy());
        Ok(Self { name: name.into_owned(), settings, text })
    }

    /// Refuses a batch of more vectors than a Hitmap numbers.
    pub fn check_batch(&self, layers: &[Layer], batch_size: u32) -> Result<()> {
        for layer in layers {
            let Layer { name, geometry, .. } = layer;
            for pass in [Pass::Forward, Pass::InputGrad] {
                let of_sample = vectors_of_sample(geometry, pass, self.settings.rpq.granularity);
                if of_sample.saturating_mul(u64::from(batch_size)) >= u64::from(u32::MAX) {
                    let reason =
                        format!("is {batch_size}: {name} then has more than {} vectors a batch; lower it", u32::MAX);
                    return Err(TracerError::Flag { flag: "--batch-size", reason });
                }
            }
        }
        Ok(())
    }
}

/// A key of the configuration and its value, on top of the file: `rpq.bits=32`.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    section: String,
    key: String,
    value: toml::Value,
}

impl FromStr for Override {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = || format!("{text:?} is not SECTION.KEY=VALUE, such as rpq.bits=32");
        let (name, value) = text.split_once('=').ok_or_else(wrong)?;
        let (section, key) = name.split_once('.').ok_or_else(wrong)?;
        // A TOML value, or a string where it is none.
        let parsed = format!("value = {value}").parse::<Table>().ok();
        let value = parsed.and_then(|mut table| table.remove("value").filter(|_| table.is_empty()));
        let value = value.unwrap_or_else(|| toml::Value::String(text[name.len() + 1..].to_owned()));
        Ok(Self { section: section.to_owned(), key: key.to_owned(), value })
    }
}

/// Layers that are computed without reuse, from a step on. The tracer has no timing model to find them
/// by: a replay says which layers reuse does not pay for, and from which step on.
#[derive(Debug, Clone)]
pub struct Off {
    layers: GlobMatcher,
    from: u64,
    text: String,
}

impl Off {
    /// Whether a layer is off at a step.
    pub fn holds(&self, layer: &str, step: u64) -> bool {
        step >= self.from && self.layers.is_match(layer)
    }

    /// Refuses a pattern that matches none of the layers.
    pub fn check(&self, layers: &[Layer]) -> Result<()> {
        if layers.iter().any(|layer| self.layers.is_match(&layer.name)) {
            return Ok(());
        }
        let known: Vec<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
        let reason = format!("{:?} matches none of {}", self.layers.glob().glob(), known.join(", "));
        Err(TracerError::Flag { flag: "--off", reason })
    }
}

impl FromStr for Off {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (glob, from) = text.split_once('@').unwrap_or((text, "0"));
        let from = from.parse().map_err(|_| format!("{from:?} is not a step"))?;
        let layers = GlobBuilder::new(glob).build().map_err(|error| error.to_string())?.compile_matcher();
        Ok(Self { layers, from, text: text.to_owned() })
    }
}

impl fmt::Display for Off {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
