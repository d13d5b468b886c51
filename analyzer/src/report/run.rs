//! `run.json`: what was run, and the command that runs it again.

use crate::config::{Config, DEFAULT_PRESET, PRESETS};
use crate::error::{AnalyzerError, REPLAY_AGAIN, Result};
use crate::probe::format_probe;
use crate::request::ErrorMode;
use crate::schema;
use crate::schema::run::{RunRecord, SelectionRecord};
use mercury_cli::{flag, quote};
use mercury_trace::manifest::parse_label;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// What was run, as `report` and `compare` read it: each configuration by section and key, so that keys that a later
/// version adds are kept as they are.
pub type ReportedRun = RunRecord<Map<String, Value>>;

/// Stands for the file of a configuration with `[[layer]]` tables, if no file of these results has it.
pub const CONFIG_FILE: &str = "CONFIG.toml";

/// A key of a configuration, and what the preset that is nearest to it has there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Section and key.
    pub key: String,
    /// The value, as it stands in a configuration file.
    pub value: String,
    /// The preset's, where it differs; empty where the preset has none.
    pub preset: Option<String>,
}

impl ReportedRun {
    /// The run in a file.
    pub(crate) fn parse(path: &Path, json: &Value) -> Result<Self> {
        check_version(path, json)?;
        let run = Self::deserialize(json)
            .map_err(|error| AnalyzerError::results(path, "run", format!("{error}; {REPLAY_AGAIN}")))?;
        for (field, label) in [("label", &run.label), ("trace.label", &run.trace.label)] {
            if let Some(label) = label {
                parse_label(label).map_err(|reason| AnalyzerError::results(path, field, reason))?;
            }
        }
        Ok(run)
    }

    /// The preset that a configuration differs least from, and the settings beside it.
    pub(crate) fn settings(&self, configuration: usize) -> (&'static str, Vec<Setting>) {
        let settings = flat(&self.configurations[configuration]);
        let beside = |(name, _): &(&'static str, &str)| {
            let preset = preset(name);
            let setting = |(key, value): (&String, &String)| {
                let there = preset.get(key).cloned().unwrap_or_default();
                Setting { key: key.clone(), value: value.clone(), preset: (there != *value).then_some(there) }
            };
            (*name, settings.iter().map(setting).collect::<Vec<_>>())
        };
        let differing = |(_, settings): &(&str, Vec<Setting>)| settings.iter().filter(|s| s.preset.is_some()).count();
        PRESETS.iter().map(beside).min_by_key(differing).expect("there are presets")
    }

    /// Whether a configuration has settings for single layers.
    pub(crate) fn is_per_layer(&self, configuration: usize) -> bool {
        let tables = self.configurations[configuration].get("layer").and_then(Value::as_array);
        tables.is_some_and(|tables| !tables.is_empty())
    }

    /// A value of a configuration, which has to be a number; `path` is this file's.
    pub(crate) fn number(&self, path: &Path, configuration: usize, section: &str, key: &str) -> Result<f64> {
        let value = self.configurations[configuration].get(section).and_then(|section| section.get(key));
        value.and_then(Value::as_f64).ok_or_else(|| {
            let field = format!("configurations.{configuration}.{section}.{key}");
            AnalyzerError::results(path, &field, format!("is no number; {REPLAY_AGAIN}"))
        })
    }

    /// The flags that chose a part of the trace, if it is one.
    pub(crate) fn part(&self) -> Option<String> {
        Some(self.selection_flags().join(" ")).filter(|flags| !flags.is_empty())
    }

    /// The command that replays one configuration; TRACE stands for the trace's folder. `file` is that of a
    /// configuration that flags cannot give.
    pub(crate) fn replay_command(&self, configuration: usize, file: Option<&str>) -> String {
        let mut words = vec!["mercury-analyzer replay TRACE --out RESULTS".to_owned()];
        match file {
            Some(file) => words.push(flag("config", file)),
            None => words.extend(self.setting_flags(configuration, &[])),
        }
        words.extend(self.selection_flags());
        words.extend(self.error_flag());
        if self.measures.bounds {
            words.push("--with bounds".to_owned());
        }
        // A sweep's label is not that of one of its configurations.
        if self.configurations.len() == 1 {
            words.extend(self.label_flag());
        }
        words.join(" ")
    }

    /// The command of a probe of one configuration. `file` is that of a configuration that flags cannot give.
    pub(crate) fn probe(&self, configuration: usize, file: Option<&str>) -> String {
        let (capture, steps) = (self.trace.command.as_deref(), &self.trace.captured_steps);
        if let Some(file) = file {
            return format_probe(capture, &quote(file), &[], steps);
        }
        let (preset, _) = self.settings(configuration);
        format_probe(capture, preset, &self.setting_flags(configuration, &["rpq.macs_per_cycle"]), steps)
    }

    /// The command of a sweep over these keys.
    pub(crate) fn sweep_command(&self, axes: &[(String, Vec<String>)]) -> String {
        let mut words = vec!["mercury-analyzer sweep TRACE --out RESULTS".to_owned()];
        words.extend(
            axes.iter().map(|(key, values)| format!("--set {}", quote(&format!("{key}={}", values.join(","))))),
        );
        let swept: Vec<&str> = axes.iter().map(|(key, _)| key.as_str()).collect();
        if self.is_per_layer(0) {
            words.push(flag("config", CONFIG_FILE));
        } else {
            words.extend(self.setting_flags(0, &swept));
        }
        words.extend(self.selection_flags());
        words.extend(self.error_flag());
        words.extend(self.label_flag());
        words.join(" ")
    }

    /// The flag for output errors, if they are not those of the default.
    fn error_flag(&self) -> Option<String> {
        match self.measures.errors {
            ErrorMode::Sampled => None,
            ErrorMode::Rough => Some("--errors rough".to_owned()),
            ErrorMode::All => Some("--errors all".to_owned()),
            ErrorMode::None => Some("--errors none".to_owned()),
        }
    }

    fn label_flag(&self) -> Option<String> {
        self.label.as_ref().map(|label| flag("label", label))
    }

    /// The preset, if it is not the default, and flags for what differs from it.
    fn setting_flags(&self, configuration: usize, except: &[&str]) -> Vec<String> {
        let (preset, settings) = self.settings(configuration);
        let differs = |setting: &Setting| setting.preset.is_some() && !except.contains(&setting.key.as_str());
        let as_flag = |setting: Setting| flag(&setting.key, &setting.value);
        let preset = (preset != DEFAULT_PRESET).then(|| format!("--preset {preset}"));
        preset.into_iter().chain(settings.into_iter().filter(differs).map(as_flag)).collect()
    }

    fn selection_flags(&self) -> Vec<String> {
        let SelectionRecord { layers, steps, passes } = &self.measures.selection;
        let steps: Vec<String> = steps.iter().map(|range| format!("{}..={}", range.start(), range.end())).collect();
        let flag = |name: &str, values: &[String]| format!("--{name} {}", quote(&values.join(",")));
        let given = [("layers", layers.as_slice()), ("steps", &steps), ("passes", passes)];
        given.into_iter().filter(|(_, values)| !values.is_empty()).map(|(name, values)| flag(name, values)).collect()
    }
}

/// Refuses files of another version.
fn check_version(path: &Path, run: &Value) -> Result<()> {
    match run["schema_version"].as_u64() {
        Some(version) if version == u64::from(schema::VERSION) => Ok(()),
        Some(version) => {
            let known = schema::VERSION;
            let reason = format!("is {version}, but this version reads {known}; {REPLAY_AGAIN}");
            Err(AnalyzerError::results(path, "schema_version", reason))
        }
        None => Err(AnalyzerError::results(path, "schema_version", format!("is missing; {REPLAY_AGAIN}"))),
    }
}

/// The settings of a preset.
fn preset(name: &str) -> BTreeMap<String, String> {
    let table = Config::preset(name).expect("the name is a preset's");
    let config = Config::resolve(name, table, &[]).expect("presets are valid, as a test checks");
    let json = serde_json::to_value(config).expect("a configuration has string keys");
    json.as_object().map(flat).unwrap_or_default()
}

/// Keys with their sections, and values as they stand in a configuration file.
pub fn flat(sections: &Map<String, Value>) -> BTreeMap<String, String> {
    let flatten_section = |(section, keys): (&String, &Value)| {
        let keys = keys.as_object().cloned().unwrap_or_default();
        let section = section.clone();
        keys.into_iter().map(move |(key, value)| (format!("{section}.{key}"), text(&value)))
    };
    sections.iter().flat_map(flatten_section).collect()
}

/// Text without quotes, as flags take it.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    /// A run of the default configuration, changed.
    pub(crate) fn run(change: impl FnOnce(&mut Value)) -> ReportedRun {
        let mut json = json!({
            "schema_version": 1,
            "created_by": "a test",
            "configurations": [Config::default()],
            "measures": {"selection": {"layers": [], "steps": [], "passes": []}, "errors": "sampled", "bounds": false},
            "trace": {
                "manifest_sha256": "00",
                "model": {"name": "m", "parameters": 9, "input": [3, 8, 8], "classes": 2},
                "dataset": {"name": "d", "train_samples": 64, "validation_samples": 0},
                "seed": 1,
                "batch_size": 8,
                "captured_steps": [0],
            },
        });
        change(&mut json);
        ReportedRun::parse(Path::new("run.json"), &json).unwrap()
    }

    #[test]
    fn the_default_needs_no_flags_and_what_differs_is_quoted_for_a_shell() {
        assert_eq!(run(|_| ()).replay_command(0, None), "mercury-analyzer replay TRACE --out RESULTS");
        let changed = run(|json| {
            json["configurations"][0]["rpq"]["granularity"] = "sub-vector(9)".into();
            json["configurations"][0]["reuse"]["passes"] = json!(["forward"]);
            json["measures"]["selection"]["layers"] = json!(["features.*"]);
            json["measures"]["selection"]["steps"] = json!([{"start": 5, "end": 9}]);
            json["measures"]["errors"] = "none".into();
            json["measures"]["bounds"] = true.into();
        });
        assert_eq!(
            changed.replay_command(0, None),
            "mercury-analyzer replay TRACE --out RESULTS --reuse.passes '[\"forward\"]' \
             --rpq.granularity 'sub-vector(9)' --layers 'features.*' --steps '5..=9' --errors none --with bounds"
        );
    }

    #[test]
    fn the_nearest_preset_is_named() {
        let patches = Config::resolve("patch-os", Config::preset("patch-os").unwrap(), &[]).unwrap();
        let run = run(|json| {
            json["configurations"] = json!([patches]);
            json["configurations"][0]["rpq"]["bits"] = 31.into();
        });
        let command = "mercury-analyzer replay TRACE --out RESULTS --preset patch-os --rpq.bits 31";
        assert_eq!(run.replay_command(0, None), command);
    }

    #[test]
    fn a_sweep_keeps_its_axes_and_what_else_differs() {
        let run = run(|json| {
            json["configurations"][0]["rpq"]["bits"] = 8.into();
            json["configurations"][0]["mcache"]["ways"] = 4.into();
            json["measures"]["errors"] = "all".into();
        });
        let axes = [("rpq.bits".to_owned(), vec!["8".to_owned(), "12".to_owned()])];
        assert_eq!(
            run.sweep_command(&axes),
            "mercury-analyzer sweep TRACE --out RESULTS --set 'rpq.bits=8,12' --mcache.ways 4 --errors all"
        );
    }

    #[test]
    fn settings_say_what_the_preset_has() {
        let run = run(|json| json["configurations"][0]["rpq"]["bits"] = 8.into());
        let (preset, settings) = run.settings(0);
        assert_eq!(preset, "mercury");
        let bits = settings.iter().find(|setting| setting.key == "rpq.bits").unwrap();
        assert_eq!((bits.value.as_str(), bits.preset.as_deref()), ("8", Some("20")));
        assert!(settings.iter().filter(|setting| setting.preset.is_some()).eq([bits]));
    }
}
