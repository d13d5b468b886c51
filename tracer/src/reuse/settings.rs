//! The configuration that training with reuse takes: the analyzer's file.

use crate::error::{Result, TracerError};
use globset::{GlobBuilder, GlobMatcher};
use mercury_hardware::HardwareError;
use mercury_hardware::config::Config;
use mercury_reuse::vectors_of_sample;
use mercury_trace::geometry::Pass;
use mercury_trace::layers::Layer;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use toml::Table;

/// A configuration and what it is called in messages and tables.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    /// The file's name without `.toml`, or the preset's.
    pub name: String,
    /// What it says.
    pub config: Config,
    /// Its text, with what was set on top.
    pub text: String,
}

impl Named {
    /// Reads a file, or a preset where there is no such file; the error names the flag and the key.
    pub fn read(flag: &'static str, path: &Path, overrides: &[Override]) -> Result<Self> {
        // A bare word that is no file can only be meant as a preset.
        let preset = path.to_str().filter(|name| !path.exists() && !name.contains(['/', '.']));
        let bad = |error: HardwareError| TracerError::Flag { flag, reason: error.to_string() };
        let (origin, table) = match preset {
            Some(name) => {
                let no_preset =
                    |error| TracerError::Flag { flag, reason: format!("no such file; as a preset, {error}") };
                (format!("preset {name}"), Config::preset(name).map_err(no_preset)?)
            }
            None => (path.display().to_string(), Config::file(path).map_err(bad)?),
        };
        let overrides: Vec<_> = overrides.iter().map(|set| (set.key.as_str(), set.value.clone())).collect();
        let config = Config::resolve(&origin, table, &overrides).map_err(|error| match error {
            HardwareError::Config { origin, reason } if origin.starts_with("--") => {
                TracerError::Flag { flag: "--set", reason: format!("{}: {reason}", &origin[2..]) }
            }
            other => bad(other),
        })?;
        let text = Table::try_from(&config).expect("a configuration is a table").to_string();
        let name = path.file_stem().map_or_else(|| path.to_string_lossy(), |stem| stem.to_string_lossy()).into_owned();
        Ok(Self { name, config, text })
    }

    /// Refuses a batch of more vectors than a Hitmap numbers.
    pub fn check_batch(&self, layers: &[Layer], batch_size: u32) -> Result<()> {
        for layer in layers {
            let Layer { name, geometry, .. } = layer;
            for pass in [Pass::Forward, Pass::InputGrad] {
                let of_sample = vectors_of_sample(geometry, pass, self.config.rpq.granularity);
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
    key: String,
    value: String,
}

impl FromStr for Override {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (key, value) = text
            .split_once('=')
            .filter(|(key, _)| key.contains('.'))
            .ok_or_else(|| format!("{text:?} is not SECTION.KEY=VALUE, such as rpq.bits=32"))?;
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

/// Layers that are computed without reuse, from a step on, whether or not it would pay.
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

    /// Whether it begins with a step of its own.
    pub fn has_step(&self) -> bool {
        self.from > 0
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
