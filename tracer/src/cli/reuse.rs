//! Flags of reuse in the loop.

use crate::error::{Result, TracerError};
use crate::policy::Policy;
use crate::reuse::{ConfigOverride, InLoop, LayersOff, NamedConfig, Session};
use clap::Args;
use mercury_trace::layers::Layer;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Reuse in the loop of a run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Reuse")]
pub struct ReuseFlags {
    /// Train with reuse under this configuration of mercury-analyzer: a file (TOML) or the name of
    /// a preset.
    #[arg(long, value_name = "CONFIG")]
    pub reuse: Option<PathBuf>,
    /// In measured steps, try reuse under this configuration without training by it; a file or
    /// preset; can be repeated.
    #[arg(long, value_name = "CONFIG")]
    pub probe: Vec<PathBuf>,
    /// Set a key of --reuse, such as rpq.bits=32; can be repeated.
    #[arg(long, value_name = "KEY=VALUE", requires = "reuse")]
    pub set: Vec<ConfigOverride>,
    /// Compute matching layers without reuse, from a step on: 'features.20@120', or 'fc' for all
    /// steps; can be repeated. Layers whose reuse costs cycles over stop.window measured steps are
    /// switched off automatically.
    #[arg(long, value_name = "GLOB[@STEP]")]
    pub off: Vec<LayersOff>,
    /// Steps in which reuse is compared with exact computation and its cycles are counted: every=N,
    /// steps=N,N,..., epochs, geometric (0, 1, 2, 4, 8, ...), none. Such a step takes about three
    /// times as long.
    #[arg(long, value_name = "WHEN", default_value = "every=50")]
    pub measure: Policy,
}

impl Default for ReuseFlags {
    /// No reuse.
    fn default() -> Self {
        Self { reuse: None, probe: Vec::new(), set: Vec::new(), off: Vec::new(), measure: Policy::None }
    }
}

impl ReuseFlags {
    /// Reads the configurations.
    pub fn read_configurations(&self) -> Result<InLoop> {
        let mut training = None;
        if let Some(path) = &self.reuse {
            let configuration = NamedConfig::read("--reuse", path, &self.set)?;
            training = Some(Session::new(configuration, self.off.clone()));
        }
        let mut probes = Vec::new();
        for path in &self.probe {
            let configuration = NamedConfig::read("--probe", path, &[])?;
            probes.push(Session::new(configuration, self.off.clone()));
        }
        Ok(InLoop { training, probes, measure: self.measure.clone() })
    }

    /// Refuses flags that do not fit the model.
    pub fn check(&self, reuse: &InLoop, model: &str, layers: &[Layer], batch_size: u32) -> Result<()> {
        self.off.iter().try_for_each(|off| off.check(layers))?;
        check_names(reuse.sessions().map(Session::configuration))?;
        for session in reuse.sessions() {
            session.configuration().check_layers(model, layers, batch_size)?;
        }
        let mut sessions = reuse.sessions();
        let switches_off = sessions.any(|session| session.configuration().config.stop.window > 0);
        if switches_off && self.measure == Policy::None {
            tracing::warn!("--measure none counts no cycles, so stop.window switches no layer off");
        }
        Ok(())
    }

    /// The settings that the result depends on, by name.
    pub fn as_settings(&self, reuse: &InLoop) -> BTreeMap<String, String> {
        let mut settings = BTreeMap::new();
        if let Some(session) = &reuse.training {
            settings.insert("reuse".to_owned(), format_configuration(session));
        }
        let probes: Vec<String> = reuse.probes.iter().map(format_configuration).collect();
        if !probes.is_empty() {
            settings.insert("probe".to_owned(), probes.join("\n"));
        }
        if reuse.sessions().next().is_some() {
            let off: Vec<String> = self.off.iter().map(ToString::to_string).collect();
            settings.insert("off".to_owned(), off.join(" "));
            settings.insert("measure".to_owned(), self.measure.to_string());
        }
        settings
    }
}

fn format_configuration(session: &Session) -> String {
    let NamedConfig { name, text, .. } = session.configuration();
    format!("# {name}\n{text}")
}

/// Refuses two configurations with the same name, because results could not tell them apart.
pub fn check_names<'a>(configurations: impl IntoIterator<Item = &'a NamedConfig>) -> Result<()> {
    let mut names: Vec<&str> = configurations.into_iter().map(|named| named.name.as_str()).collect();
    names.sort_unstable();
    let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) else { return Ok(()) };
    let reason = format!("two configurations are called {:?}; rename one of the files", pair[0]);
    Err(TracerError::Flag { flag: "--reuse, --probe", reason })
}
