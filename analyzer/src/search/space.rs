//! What a search chooses from: settings that all layers share, and under each of them the settings of a layer.

use super::Axes;
use crate::config::{Config, LAYER_KEYS, PRESET_ORIGIN};
use crate::error::{AnalyzerError, Result};
use crate::ladder;
use crate::sweep::grid::{Axis, Grid};
use crate::sweep::seeds;
use mercury_reuse::config::Granularity;
use mercury_trace::geometry::Pass;
use toml::Table;

/// Settings of a layer that are tried where none are asked for: 3 variants of 6 lengths.
const DEFAULT_AXES: [&str; 2] = ["rpq.variant=sign,sign+rescale,centred", "rpq.bits=12,20,28,36,44,52"];
/// And if the reading cuts patches of one channel: patches of more channels where the kernel has few elements.
const GRANULARITIES: &str = "rpq.granularity=channel-patch,channel-patch(auto)";
/// Sections that a search fixes itself: a design is one for all steps.
const FIXED: [&str; 3] = ["stop.", "bits.", "bounds."];

/// The configuration that a search starts from.
pub struct Start {
    /// Its origin, for messages.
    pub origin: String,
    /// The table of its preset or file.
    pub table: Table,
    /// Flags that override it.
    pub overrides: Vec<(&'static str, String)>,
    /// Whether the user named a preset, a file or a flag.
    pub is_chosen: bool,
}

/// The part of a trace that is searched.
pub struct Searched {
    /// Whether it has all channels, as patches of several channels need.
    pub has_all_channels: bool,
    /// The chosen passes.
    pub passes: Vec<Pass>,
}

/// A reading of the hardware, or other settings that all layers share.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Its name: a preset, or the values of the shared axes.
    pub name: String,
    /// The settings as they are configured.
    pub base: Config,
    /// All configurations that are replayed.
    pub candidates: Vec<Candidate>,
    /// Place of `base` among the candidates.
    pub configured: usize,
}

/// One setting for all layers, which is tried on each of them.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The configuration, which is the same in all layers.
    pub config: Config,
    /// Whether a search may choose it; if not, it is there to be compared with.
    pub is_choosable: bool,
    /// Whether it is a setting of its own; if not, it differs from the candidate before it in that weight gradients are
    /// exact.
    pub is_whole: bool,
}

impl Candidate {
    /// Whether a pass is computed with reuse.
    pub fn reuses(&self, pass: Pass) -> bool {
        self.config.reuse.passes.contains(&pass)
    }
}

/// Place of the candidate without reuse.
pub const OFF: usize = 0;

/// All readings with their candidates.
#[derive(Debug, Clone)]
pub struct Space {
    /// The readings.
    pub readings: Vec<Reading>,
    /// Projections of each candidate.
    pub seeds: u32,
    /// Combinations of values that are not valid, and the error of the first.
    pub left_out: Option<(usize, String)>,
}

impl Space {
    /// Lists what is asked for. Without a configuration and shared axes these are the readings that presets name, and the
    /// bound.
    ///
    /// # Errors
    /// If an axis is shared and per layer, or has a key that is neither, or no combination is valid.
    pub fn new(start: &Start, axes: &Axes, seeds: u32, part: &Searched) -> Result<Self> {
        check_axes(start, axes)?;
        let mut space = Self { readings: Vec::new(), seeds, left_out: None };
        if !start.is_chosen && axes.shared.is_empty() {
            for rung in ladder::list_readings()? {
                let name = rung.preset.map_or_else(|| "bound".to_owned(), str::to_owned);
                let origin = format!("{PRESET_ORIGIN}{name}");
                space.add(name, &origin, rung.config, axes, part)?;
            }
            return Ok(space);
        }
        let name = start.origin.strip_prefix(PRESET_ORIGIN).unwrap_or(&start.origin);
        if axes.shared.is_empty() {
            let base = Config::resolve(&start.origin, start.table.clone(), &start.overrides)?;
            space.add(name.to_owned(), &start.origin, base, axes, part)?;
            return Ok(space);
        }
        let grid = Grid::new(axes.shared.clone(), &start.origin, &start.table, &start.overrides)
            .map_err(|error| rename_flag(error, "--shared"))?;
        for (config, places) in grid.configs.iter().zip(&grid.places) {
            let name = format!("{name}, {}", grid.describe(places));
            space.add(name, &start.origin, config.clone(), axes, part)?;
        }
        space.count_left_out(grid.left_out);
        Ok(space)
    }

    /// Adds a reading; `origin` is that of its configuration, for messages.
    fn add(&mut self, name: String, origin: &str, base: Config, axes: &Axes, part: &Searched) -> Result<()> {
        let mut base = fix_adaptation(base);
        base.reuse.passes.retain(|pass| part.passes.contains(pass));
        if !base.layer.is_empty() {
            let reason = format!(
                "{name} has [[layer]] tables, but a search decides the settings of layers itself; remove the tables"
            );
            return Err(AnalyzerError::Flag { flag: "--config", reason });
        }
        let mut per_layer = axes.per_layer.clone();
        if per_layer.is_empty() {
            per_layer = list_default_axes(&base, part.has_all_channels);
            per_layer.retain(|axis| axes.shared.iter().all(|shared| shared.key != axis.key));
        }
        let exact_gradients = !per_layer.iter().any(|axis| axis.key == "reuse.passes");
        let table = Table::try_from(&base).expect("a configuration is a table");
        let grid = Grid::new(per_layer, origin, &table, &[]).map_err(|error| rename_flag(error, "--per-layer"))?;
        let mut off = base.clone();
        off.reuse.passes.clear();
        let mut reading = Reading { name, base: base.clone(), candidates: Vec::new(), configured: 0 };
        reading.candidates.push(Candidate { config: off, is_choosable: true, is_whole: true });
        for config in grid.configs.into_iter().filter(|config| !config.reuse.passes.is_empty()) {
            let mut exact = config.clone();
            exact.reuse.passes.retain(|pass| *pass != Pass::WeightGrad);
            let is_another = exact_gradients && exact != config && config.reuse.passes.contains(&Pass::Forward);
            reading.candidates.push(Candidate { config, is_choosable: true, is_whole: true });
            if is_another {
                reading.candidates.push(Candidate { config: exact, is_choosable: true, is_whole: false });
            }
        }
        let known = reading.candidates.iter().position(|candidate| candidate.is_whole && candidate.config == base);
        reading.configured = known.unwrap_or(reading.candidates.len());
        if known.is_none() {
            reading.candidates.push(Candidate { config: base, is_choosable: false, is_whole: true });
        }
        self.readings.push(reading);
        self.count_left_out(grid.left_out);
        Ok(())
    }

    fn count_left_out(&mut self, more: Option<(usize, String)>) {
        match (&mut self.left_out, more) {
            (Some((count, _)), Some((more, _))) => *count += more,
            (none, more) => *none = none.take().or(more),
        }
    }

    /// All configurations to replay: by reading, candidate and projection.
    ///
    /// # Errors
    /// If a seed would exceed 63 bits, or there are several for a candidate that draws nothing.
    pub fn configs(&self) -> Result<Vec<Config>> {
        let configs: Vec<Config> = self.candidates().map(|candidate| candidate.config.clone()).collect();
        seeds::with_seeds(&configs, self.seeds).map_err(|reason| AnalyzerError::Flag { flag: "--seeds", reason })
    }

    /// All candidates, by reading.
    pub fn candidates(&self) -> impl Iterator<Item = &Candidate> {
        self.readings.iter().flat_map(|reading| &reading.candidates)
    }

    /// The number of a reading's first candidate among all.
    pub fn first_candidate(&self, reading: usize) -> usize {
        self.readings[..reading].iter().map(|reading| reading.candidates.len()).sum()
    }
}

/// Axes for a reading where none are asked for.
fn list_default_axes(base: &Config, has_all_channels: bool) -> Vec<Axis> {
    let has_channel_patches = base.rpq.granularity == Granularity::CHANNEL_PATCH && has_all_channels;
    let texts = DEFAULT_AXES.into_iter().chain(has_channel_patches.then_some(GRANULARITIES));
    texts.map(|text| Axis::parse(text, LAYER_KEYS).expect("the default axes are valid")).collect()
}

/// Signatures do not grow and no layer is switched off by its cycles, so that a design is the same in all steps.
fn fix_adaptation(mut config: Config) -> Config {
    config.stop.window = 0;
    config.bits.patience = 0;
    config
}

fn check_axes(start: &Start, Axes { shared, per_layer }: &Axes) -> Result<()> {
    let fail = |flag: &'static str, reason: String| Err(AnalyzerError::Flag { flag, reason });
    for axis in per_layer {
        if !LAYER_KEYS.contains(&axis.key) {
            let own = LAYER_KEYS.join(", ");
            return fail(
                "--per-layer",
                format!("{} is shared by all layers; give it to --shared ({own} may differ)", axis.key),
            );
        }
        if shared.iter().any(|other| other.key == axis.key) {
            return fail("--per-layer", format!("{} is given to --shared, too; leave one of them out", axis.key));
        }
    }
    let flags = start.overrides.iter().map(|(key, _)| *key).chain(shared.iter().map(|axis| axis.key));
    match flags.into_iter().find(|key| FIXED.iter().any(|section| key.starts_with(section))) {
        Some(key) => {
            let reason = format!(
                "{key} cannot be set in a search: a design is the same in all steps (stop.window = 0, bits.patience = 0), and a \
                 search computes no bounds on reuse"
            );
            fail("--stop.*, --bits.*, --bounds.*", reason)
        }
        None => Ok(()),
    }
}

fn rename_flag(error: AnalyzerError, flag: &'static str) -> AnalyzerError {
    match error {
        AnalyzerError::Flag { flag: "--set", reason } => AnalyzerError::Flag { flag, reason },
        other => other,
    }
}
