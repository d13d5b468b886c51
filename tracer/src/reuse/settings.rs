//! Configurations of reuse in the loop, in the same file format as the analyzer's.

use crate::error::{Result, TracerError};
use globset::{GlobBuilder, GlobMatcher};
use mercury_hardware::HardwareError;
use mercury_hardware::config::Config;
use mercury_reuse::count_sample_vectors;
use mercury_trace::geometry::Pass;
use mercury_trace::layers::Layer;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use toml::Table;

/// A configuration with the name that messages and tables use.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedConfig {
    /// The name of the file without `.toml`, or the name of the preset.
    pub name: String,
    /// The configuration.
    pub config: Config,
    /// Its text as TOML, overrides included.
    pub text: String,
}

impl NamedConfig {
    /// Reads a file, or a preset if there is no such file. An error names the flag and the key.
    pub fn read(flag: &'static str, path: &Path, overrides: &[ConfigOverride]) -> Result<Self> {
        // A bare word that is not a file can only name a preset.
        let preset = path.to_str().filter(|name| !path.exists() && !name.contains(['/', '.']));
        let bad = |error: HardwareError| TracerError::Flag { flag, reason: error.to_string() };
        let no_preset =
            |error: HardwareError| TracerError::Flag { flag, reason: format!("no such file; as a preset, {error}") };
        let (origin, table) = match preset {
            Some(name) => (format!("preset {name}"), Config::preset(name).map_err(no_preset)?),
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
        let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Self { name, config, text })
    }

    /// Refuses a configuration that does not fit the layers of a model, and a batch with more vectors than a Hitmap can
    /// number.
    pub fn check_layers(&self, model: &str, layers: &[Layer], batch_size: u32) -> Result<()> {
        self.config.check_layers(model, layers).map_err(|error| TracerError::Flag {
            flag: "--reuse, --probe",
            reason: format!("{}: {error}", self.name),
        })?;
        let config = Arc::new(self.config.clone());
        for Layer { name, geometry, .. } in layers {
            let configs = config.layer_configs(name, 0);
            for pass in [Pass::Forward, Pass::InputGrad] {
                let vectors = count_sample_vectors(geometry, pass, configs.pass(pass).rpq.granularity);
                if vectors.saturating_mul(u64::from(batch_size)) >= u64::from(u32::MAX) {
                    let reason = format!(
                        "is {batch_size}, which gives {name} more than {} vectors per batch; lower it",
                        u32::MAX
                    );
                    return Err(TracerError::Flag { flag: "--batch-size", reason });
                }
            }
        }
        Ok(())
    }
}

/// A key of the configuration with a value that overrides the file's: `rpq.bits=32`.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigOverride {
    key: String,
    value: String,
}

impl FromStr for ConfigOverride {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (key, value) = text
            .split_once('=')
            .filter(|(key, _)| key.contains('.'))
            .ok_or_else(|| format!("{text:?} is not SECTION.KEY=VALUE, such as rpq.bits=32"))?;
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

/// Layers that are computed without reuse from a step on, whether or not reuse would pay.
#[derive(Debug, Clone)]
pub struct LayersOff {
    layers: GlobMatcher,
    from: u64,
    text: String,
}

impl LayersOff {
    /// Whether it covers a layer in a step.
    pub fn applies_to(&self, layer: &str, step: u64) -> bool {
        step >= self.from && self.layers.is_match(layer)
    }

    /// Whether it starts after the first step.
    pub fn has_step(&self) -> bool {
        self.from > 0
    }

    /// Refuses a pattern that matches no layer.
    pub fn check(&self, layers: &[Layer]) -> Result<()> {
        if layers.iter().any(|layer| self.layers.is_match(&layer.name)) {
            return Ok(());
        }
        let known: Vec<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
        let reason = format!("{:?} matches none of {}", self.layers.glob().glob(), known.join(", "));
        Err(TracerError::Flag { flag: "--off", reason })
    }
}

impl FromStr for LayersOff {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (glob, from) = text.split_once('@').unwrap_or((text, "0"));
        let from = from.parse().map_err(|_| format!("{from:?} is not a step"))?;
        let layers = GlobBuilder::new(glob).build().map_err(|error| error.to_string())?.compile_matcher();
        Ok(Self { layers, from, text: text.to_owned() })
    }
}

impl fmt::Display for LayersOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
