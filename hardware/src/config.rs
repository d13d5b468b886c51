//! Configuration: one TOML file, a preset, flags. Unknown keys are refused.

mod layers;
mod projection;
mod sections;

pub use crate::timing::row_stationary::{DealingRule, HitCycles};
pub use layers::{
    LAYER_KEYS, LayerConfigs, LayerOverride, McacheOverride, Pattern, ReuseOverride, RpqOverride, find_source,
};
pub use mercury_reuse::config::{BitsConfig, ReuseConfig, StopConfig};
pub use projection::read_projection;
pub use sections::{ArrayConfig, BoundsConfig, ScheduleName};

use crate::error::{HardwareError, Result};
use crate::suggest::{did_you_mean, in_message};
use crate::timing::memory::{Energy, Memory, MemoryModel, Signatures};
use crate::timing::row_stationary::{Discipline, PeArray};
use crate::timing::rows::RowArray;
use crate::timing::{Array, Dataflow, DataflowName, MatrixArray, SigningUnit, folded_dataflow};
use mercury_reuse::config::{McacheConfig, Representative, Rpq, Scheme, Scope, SignatureUnit, Variant};
use mercury_trace::geometry::Pass;
use mercury_trace::input;
use serde::{Deserialize, Serialize};
use std::path::Path;
use toml::Table;

/// Presets: name and file.
pub const PRESETS: &[(&str, &str)] = &[
    ("mercury", include_str!("../presets/mercury.toml")),
    ("mercury-skip", include_str!("../presets/mercury-skip.toml")),
    ("mercury-ahead", include_str!("../presets/mercury-ahead.toml")),
    ("patch-os", include_str!("../presets/patch-os.toml")),
    ("deep-reuse", include_str!("../presets/deep-reuse.toml")),
    ("trec", include_str!("../presets/trec.toml")),
];

/// The origin of a configuration that a preset alone describes begins with this; see [`Config::resolve`].
pub const PRESET_ORIGIN: &str = "preset ";
/// The preset that is taken where none is named.
pub const DEFAULT_PRESET: &str = "mercury";
/// Most bytes of a configuration file.
const MAX_BYTES: u64 = 1 << 20;

/// What a HIT's product is computed from, as far as it is the configuration's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Substitution {
    /// What is reused.
    pub variant: Variant,
    /// What stands for the vectors of an entry.
    pub representative: Representative,
}

/// Everything a replay depends on beside the trace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The model whose layers the configuration was made for; another is refused. `None`: for any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Signatures.
    pub rpq: Rpq,
    /// The signature cache.
    pub mcache: McacheConfig,
    /// The array.
    pub array: ArrayConfig,
    /// Where the scheme is applied.
    pub reuse: ReuseConfig,
    /// Growth of signatures.
    pub bits: BitsConfig,
    /// Switching layers off.
    pub stop: StopConfig,
    /// Bounds and competitors.
    pub bounds: BoundsConfig,
    /// Buffer and DRAM.
    pub memory: Memory,
    /// What an access costs.
    pub energy: Energy,
    /// Settings of single layers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layer: Vec<LayerOverride>,
}

impl Config {
    /// The preset of a name.
    pub fn preset(name: &str) -> Result<Table> {
        let (_, text) = PRESETS.iter().find(|(preset, _)| *preset == name).ok_or_else(|| {
            let meant = did_you_mean(name, PRESETS.iter().map(|(preset, _)| *preset));
            HardwareError::Preset(format!("{name:?} is not one of {}{meant}", preset_names()))
        })?;
        Ok(text.parse().expect("presets are well-formed, as a test checks"))
    }

    /// The table in a file. Paths in it are relative to its folder.
    pub fn file(path: &Path) -> Result<Table> {
        let fail = |reason: String| HardwareError::Config { origin: path.display().to_string(), reason };
        let text = input::read_text(path, MAX_BYTES)?;
        // Checked as it stands, so that an error shows the line that is wrong.
        let fail_at = |error: toml::de::Error| fail(shortened(&in_message(error.to_string().trim_end())));
        let table: std::result::Result<Table, _> = text.parse();
        table.as_ref().map_or(Ok(()), layers::check_keys).map_err(fail)?;
        toml::from_str::<Config>(&text).map_err(fail_at)?;
        let mut table = table.map_err(fail_at)?;
        projection::anchor_files(&mut table, path.parent().unwrap_or(Path::new("")));
        Ok(table)
    }

    /// The configuration of a table from `origin` (for messages), with overrides by key such as
    /// `rpq.bits`, whose values are TOML or else plain strings. Reads the files of projections, whose paths are
    /// relative to the working directory.
    ///
    /// An error that an override is to blame for has `--` and its key as origin. A preset may set keys that another
    /// array does not know; anything else may not.
    pub fn resolve(origin: &str, mut table: Table, overrides: &[(&str, String)]) -> Result<Self> {
        // Kept to the end, so that no file is parsed twice.
        let mut read = Vec::new();
        for (key, text) in overrides {
            let Some((section, name)) = key.split_once('.') else {
                let reason = "is no key of a configuration, which has the form SECTION.KEY".to_owned();
                return Err(HardwareError::Config { origin: format!("--{key}"), reason });
            };
            let value = parse_value(text);
            // Alone first, so that an error names the flag.
            let alone =
                Table::from_iter([(section.to_owned(), Table::from_iter([(name.to_owned(), value.clone())]).into())]);
            let fail = |reason| HardwareError::Config { origin: format!("--{key}"), reason };
            let alone: Config = alone.try_into().map_err(|error| fail(in_message(toml::de::Error::message(&error))))?;
            read.push(read_projection(&alone.rpq.projection).map_err(fail)?);
            let section = table.entry(section).or_insert_with(|| Table::new().into());
            if let Some(section) = section.as_table_mut() {
                section.insert(name.to_owned(), value);
            }
        }
        let fail = |reason: String| HardwareError::Config { origin: origin.to_owned(), reason };
        let mut config: Config = table.try_into().map_err(|error: toml::de::Error| fail(error.message().to_owned()))?;
        config.read_projections().map_err(fail)?;
        config.validate().map_err(fail)?;
        config.refuse_unknown_keys(origin, overrides)?;
        if config.array.dataflow == DataflowName::RowStationary {
            let pe_words = config.array.ifmap_words.min(config.array.filter_words);
            config.rpq.granularity = config.rpq.granularity.with_pe_words(pe_words);
            for table in &mut config.layer {
                table.rpq.granularity = table.rpq.granularity.map(|own| own.with_pe_words(pe_words));
            }
        }
        Ok(config)
    }

    /// Refuses keys that the array does not know, unless a preset sets them: it may be combined with another array.
    fn refuse_unknown_keys(&self, origin: &str, overrides: &[(&str, String)]) -> Result<()> {
        if self.array.dataflow == DataflowName::RowStationary {
            return Ok(());
        }
        let default = Config::default();
        let changed = [
            ("array.hit_cycles", self.array.hit_cycles != default.array.hit_cycles),
            ("array.dealing", self.array.dealing != default.array.dealing),
            ("mcache.results_per_cycle", self.mcache.results_per_cycle != default.mcache.results_per_cycle),
        ];
        for (key, _) in changed.into_iter().filter(|(_, is_changed)| *is_changed) {
            let is_flag = overrides.iter().any(|(flag, _)| *flag == key);
            if !is_flag && origin.starts_with(PRESET_ORIGIN) {
                continue;
            }
            let array = self.dataflow().name();
            let reason = format!(
                "{}only a row-stationary array (array.dataflow = \"rs\") knows it; this one is {array}, and \
                 mcache.read_ports says how fast it copies results",
                if is_flag { String::new() } else { format!("{key}: ") }
            );
            let origin = if is_flag { format!("--{key}") } else { origin.to_owned() };
            return Err(HardwareError::Config { origin, reason });
        }
        Ok(())
    }

    /// Size of a bank of MCACHE: entries, each with a signature as tag and `mcache.versions` words of results. `None` if
    /// it has no limit.
    pub fn mcache_kb(&self) -> Option<f64> {
        let word_bits = 8 * u64::from(self.memory.word_bytes);
        let entry = u64::from(self.rpq.signature_bits()) + u64::from(self.mcache.versions) * word_bits;
        let bits = u64::from(self.mcache.entries) * entry;
        (bits > 0).then(|| bits as f64 / 8.0 / 1024.0)
    }

    /// Multiply-accumulates per cycle of a unit for signatures; `None` if there is none.
    pub fn unit_macs(&self) -> Option<u32> {
        (self.rpq.unit == SignatureUnit::Dedicated).then(|| self.rpq.macs_per_cycle.unwrap_or(self.array.pes()))
    }

    /// The same with the multiply-accumulates of a unit for signatures as more columns of the array, rounded up: what
    /// a baseline could do with them. `None` without a unit.
    pub fn with_equal_macs(&self) -> Option<Self> {
        let mut config = self.clone();
        config.array.columns += self.unit_macs()?.div_ceil(self.array.rows);
        Some(config)
    }

    /// What decides a HIT.
    pub fn scheme(&self) -> Scheme {
        Scheme { rpq: self.rpq.clone(), mcache: self.mcache.clone() }
    }

    /// What becomes of a HIT.
    pub fn substitution(&self) -> Substitution {
        Substitution { variant: self.rpq.variant, representative: self.mcache.representative }
    }

    /// The array that timing works with.
    pub fn timing_array(&self) -> Array {
        Array {
            rows: u64::from(self.array.rows),
            columns: u64::from(self.array.columns),
            accumulate_lanes: u64::from(self.array.accumulate_lanes.unwrap_or(self.array.columns)),
            read_ports: u64::from(self.mcache.read_ports),
            signing: match (self.rpq.unit, self.unit_macs()) {
                (_, Some(macs)) => SigningUnit::Dedicated { macs_per_cycle: macs.into() },
                (SignatureUnit::Free, None) => SigningUnit::Free,
                (_, None) => SigningUnit::Array,
            },
        }
    }

    /// The array's dataflow, which owns its timing and traffic.
    pub fn dataflow(&self) -> Box<dyn Dataflow> {
        match folded_dataflow(self.array.dataflow) {
            Some(dataflow) => Box::new(MatrixArray { array: self.timing_array(), dataflow }),
            None => Box::new(self.row_array()),
        }
    }

    /// The row-stationary array: Eyeriss's with other rows and columns.
    fn row_array(&self) -> RowArray {
        let discipline = match self.array.schedule {
            ScheduleName::Synchronous => Discipline::Synchronous,
            ScheduleName::Asynchronous => Discipline::Asynchronous {
                versions: u64::from(self.mcache.versions),
                banks: u64::from(self.mcache.banks),
            },
        };
        let (rows, columns) = (u64::from(self.array.rows), u64::from(self.array.columns));
        RowArray {
            array: self.memory.pe_array(PeArray {
                rows,
                columns,
                ifmap_words: u64::from(self.array.ifmap_words),
                filter_words: u64::from(self.array.filter_words),
                psum_words: u64::from(self.array.psum_words),
                network_bound: self.array.network_bound,
                ..PeArray::default()
            }),
            hit_cycles: self.array.hit_cycles,
            dealing: self.array.dealing,
            results_per_cycle: u64::from(self.mcache.results_per_cycle),
            signing: self.timing_array().signing,
            discipline,
            per_sample: self.mcache.scope_linear == Scope::Sample,
        }
    }

    /// The memory that traffic is counted for.
    pub fn memory_model(&self) -> MemoryModel {
        let kept = self.reuse.passes.contains(&Pass::WeightGrad);
        MemoryModel {
            memory: self.memory.clone(),
            array: self.timing_array(),
            signatures: Signatures::new(&self.rpq, kept),
        }
    }

    fn validate(&self) -> std::result::Result<(), String> {
        self.scheme().validate().map_err(|error| error.to_string())?;
        self.array.validate()?;
        self.bits.validate().map_err(|error| error.to_string())?;
        self.bounds.validate()?;
        self.memory.validate()?;
        self.energy.validate()?;
        self.reuse.validate().map_err(|error| error.to_string())?;
        self.dataflow().check(self.rpq.granularity, self.mcache.scope)?;
        self.validate_layers()
    }
}

/// A message whose lines are for people to read: a file of one endless line is not.
fn shortened(text: &str) -> String {
    text.lines().map(|line| line.chars().take(200).collect()).collect::<Vec<String>>().join("\n")
}

/// A TOML value, or a string where the text is none: `--array.dataflow os` needs no quotes.
fn parse_value(text: &str) -> toml::Value {
    format!("value = {text}")
        .parse::<Table>()
        .ok()
        .and_then(|mut table| table.remove("value").filter(|_| table.is_empty()))
        .unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

/// Names of the presets, for messages and help.
pub fn preset_names() -> String {
    PRESETS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(overrides: &[(&'static str, &str)]) -> std::result::Result<Config, String> {
        let overrides: Vec<_> = overrides.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        Config::resolve("test", Table::new(), &overrides).map_err(|error| error.to_string())
    }

    #[test]
    fn presets_are_valid_and_mercury_is_the_default() {
        for (name, _) in PRESETS {
            let config = Config::resolve(name, Config::preset(name).unwrap(), &[]).unwrap();
            assert_eq!(config == Config::default(), *name == "mercury", "{name}");
        }
    }

    #[test]
    fn batch_scopes_do_not_go_with_a_row_stationary_array() {
        for name in ["trec", "deep-reuse"] {
            let row_stationary = [("array.dataflow", "rs".to_owned()), ("rpq.granularity", "channel-patch".to_owned())];
            let error = Config::resolve(name, Config::preset(name).unwrap(), &row_stationary).unwrap_err().to_string();
            assert!(error.contains("mcache.scope: is batch, but a row-stationary array"), "{error}");
        }
    }

    #[test]
    fn flags_override_keys() {
        let config = resolve(&[
            ("rpq.bits", "32"),
            ("array.dataflow", "os"),
            ("rpq.granularity", "patch"),
            ("reuse.passes", "[\"forward\"]"),
        ])
        .unwrap();
        assert_eq!(config.rpq.bits, 32);
        assert_eq!(config.array.dataflow, DataflowName::OutputStationary);
        assert_eq!(config.reuse.passes, [Pass::Forward]);
    }

    #[test]
    fn wrong_values_are_named() {
        let error = |overrides| resolve(overrides).unwrap_err();
        assert!(error(&[("rpq.bits", "65")]).contains("rpq.bits: is 65"));
        assert!(error(&[("rpq.bits", "many")]).contains("bits"));
        assert!(error(&[("rpq.bitz", "20")]).contains("unknown field `bitz`"));
        assert!(error(&[("mcache.ways", "3")]).contains("not a multiple of mcache.ways (3)"));
        assert!(error(&[("array.rows", "0")]).contains("array.rows: is 0"));
        assert!(error(&[("array.filter_words", "11")]).contains("array.ifmap_words (12) at least"));
        assert!(error(&[("array.dataflow", "os")]).contains("rpq.granularity"));
        assert!(error(&[("reuse.passes", "[\"weight-grad\"]")]).contains("add forward"));
    }
}
