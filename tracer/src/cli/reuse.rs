//! Flags of reuse in the loop.

use crate::error::{Result, TracerError};
use crate::policy::Policy;
use crate::reuse::{InLoop, Named, Off, Override, Session};
use clap::Args;
use mercury_trace::layers::Layer;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Reuse in the loop of a run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Reuse")]
pub struct ReuseFlags {
    /// Train with reuse as this configuration of mercury-analyzer says: a file (TOML) or the name of a preset.
    #[arg(long, value_name = "CONFIG")]
    pub reuse: Option<PathBuf>,
    /// At measured steps, try reuse as this configuration says, a file or preset, beside what is trained; can be
    /// given more than once.
    #[arg(long, value_name = "CONFIG")]
    pub probe: Vec<PathBuf>,
    /// Set a key of --reuse: rpq.bits=32; can be given more than once.
    #[arg(long, value_name = "KEY=VALUE", requires = "reuse")]
    pub set: Vec<Override>,
    /// Compute matching layers without reuse, from a step on: 'features.20@120', or 'fc' for all steps; can be
    /// given more than once. Layers for which reuse did not pay over stop.window measured steps are switched off
    /// by themselves.
    #[arg(long, value_name = "GLOB[@STEP]")]
    pub off: Vec<Off>,
    /// Steps at which reuse is set beside exact computation, and its cycles are counted, which takes about three
    /// times as long:
    /// every=N, steps=N,N,..., epochs, geometric (0, 1, 2, 4, 8, ...), none.
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
    /// What the run does.
    pub fn in_loop(&self) -> Result<InLoop> {
        let session = |named| Session::new(named, self.off.clone());
        let training = self.reuse.as_ref().map(|path| Named::read("--reuse", path, &self.set)).transpose()?;
        let probes: Result<Vec<Named>> = self.probe.iter().map(|path| Named::read("--probe", path, &[])).collect();
        Ok(InLoop {
            training: training.map(session),
            probes: probes?.into_iter().map(session).collect(),
            measure: self.measure.clone(),
            news: std::sync::Mutex::default(),
        })
    }

    /// Refuses what does not fit the model.
    pub fn check(&self, reuse: &InLoop, layers: &[Layer], batch_size: u32) -> Result<()> {
        self.off.iter().try_for_each(|off| off.check(layers))?;
        check_names(reuse.sessions().map(|session| session.named()))?;
        reuse.sessions().try_for_each(|session| session.named().check_batch(layers, batch_size))?;
        let stops = reuse.sessions().any(|session| session.named().config.stop.window > 0);
        if stops && self.measure == Policy::None {
            tracing::warn!("with --measure none no cycles are counted, and stop.window switches no layer off");
        }
        Ok(())
    }

    /// What the result depends on, by name.
    pub fn as_settings(&self, reuse: &InLoop) -> BTreeMap<String, String> {
        let text = |session: &Arc<Session>| format!("# {}\n{}", session.named().name, session.named().text);
        let mut settings = BTreeMap::new();
        if let Some(session) = &reuse.training {
            settings.insert("reuse".to_owned(), text(session));
        }
        let probes: Vec<String> = reuse.probes.iter().map(text).collect();
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

/// Refuses two configurations of one name, which results could not tell apart.
pub fn check_names<'a>(named: impl IntoIterator<Item = &'a Named>) -> Result<()> {
    let mut names: Vec<&str> = named.into_iter().map(|named| named.name.as_str()).collect();
    names.sort_unstable();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
    twice.map_or(Ok(()), |pair| {
        let reason = format!("two configurations are called {:?}; give one file another name", pair[0]);
        Err(TracerError::Flag { flag: "--reuse, --probe", reason })
    })
}
