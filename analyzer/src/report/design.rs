//! Settings that differ between layers, as `[[layer]]` tables of a configuration give them.

use super::run::{CONFIG_FILE, ReportedRun};
use crate::layer_settings::{LayerSettings, format_setting};
use mercury_trace::geometry::Pass;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;

/// The settings of a layer's passes that share signatures, as a row of a table.
#[derive(Debug, Serialize)]
pub struct LayerRow {
    layer: String,
    /// Passes that share these signatures.
    passes: &'static str,
    /// Those of them that reuse.
    reuse: String,
    bits: u32,
    granularity: String,
    variant: String,
    projection: String,
    representative: String,
    scope: String,
}

/// The file of a configuration that flags cannot give; `None` if they can.
pub fn find_file(run: &ReportedRun, dir: &Path, configuration: usize) -> Option<String> {
    if !run.is_per_layer(configuration) {
        return None;
    }
    let readings = run.search.iter().flat_map(|search| &search.readings);
    let mut written = readings.filter(|reading| reading.configurations.last() == Some(&configuration));
    let path = written.next().map(|reading| dir.join(&reading.file).display().to_string());
    Some(path.unwrap_or_else(|| CONFIG_FILE.to_owned()))
}

/// The rows of the table of settings by layer; none if all layers have the same.
pub fn list_layers(run: &ReportedRun, configuration: usize) -> Vec<LayerRow> {
    let rows = own_settings(run, configuration).map(|own| LayerRow {
        layer: own.layer.clone(),
        passes: match own.pass {
            Pass::InputGrad => "input-grad",
            _ => "forward, weight-grad",
        },
        reuse: own.reuse.iter().map(|pass| pass.name()).collect::<Vec<_>>().join(", "),
        bits: own.bits,
        granularity: format_setting(&own.settings.granularity),
        variant: format_setting(&own.settings.variant),
        projection: format_setting(&own.settings.projection),
        representative: format_setting(&own.settings.representative),
        scope: format_setting(&own.settings.scope),
    });
    rows.collect()
}

/// The signature length of all layers with reuse, without the bits of a magnitude; `None` if there are several or none.
pub fn single_length(run: &ReportedRun, configuration: usize) -> Option<u32> {
    let lengths: BTreeSet<u32> = reusing(run, configuration).map(|own| own.bits).collect();
    lengths.first().copied().filter(|_| lengths.len() == 1)
}

/// The signatures of a configuration with settings per layer, in a line.
pub fn describe_signatures(run: &ReportedRun, configuration: usize) -> String {
    let name = |own: &LayerSettings| own.layer.clone();
    let layers: BTreeSet<String> = own_settings(run, configuration).map(name).collect();
    let on: BTreeSet<String> = reusing(run, configuration).map(name).collect();
    let lengths: BTreeSet<u32> = reusing(run, configuration).map(|own| own.bits).collect();
    let (Some(least), Some(most)) = (lengths.first(), lengths.last()) else {
        return if layers.is_empty() { "per layer".to_owned() } else { "per layer: no layer reuses".to_owned() };
    };
    let bits = if least == most { format!("{least} bits") } else { format!("{least} to {most} bits") };
    let distinct = |value: fn(&LayerSettings) -> String| {
        let values: BTreeSet<String> = reusing(run, configuration).map(value).collect();
        values.into_iter().collect::<Vec<_>>().join(" or ")
    };
    let granularity = distinct(|own| format_setting(&own.settings.granularity));
    let variant = distinct(|own| format_setting(&own.settings.variant));
    format!("per layer: {bits}, {granularity}, {variant}; {} of {} layers reuse", on.len(), layers.len())
}

fn own_settings(run: &ReportedRun, configuration: usize) -> impl Iterator<Item = &LayerSettings> {
    run.layer_settings.iter().filter(move |own| own.configuration == configuration)
}

fn reusing(run: &ReportedRun, configuration: usize) -> impl Iterator<Item = &LayerSettings> {
    own_settings(run, configuration).filter(|own| !own.reuse.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::run::tests::run;
    use serde_json::{Value, json};

    fn own(layer: &str, bits: u32, reuse: &[&str]) -> Value {
        json!({"configuration": 0, "layer": layer, "pass": "forward", "reuse": reuse, "bits": bits, "seed": 1,
               "granularity": "channel-patch", "variant": "sign", "projection": "gaussian",
               "representative": "first", "scope": "channel"})
    }

    fn per_layer(settings: &[Value]) -> ReportedRun {
        run(|json| {
            json["configurations"][0]["layer"] = json!([{"name": "a", "rpq": {"bits": 8}}]);
            json["layer_settings"] = json!(settings);
        })
    }

    #[test]
    fn signatures_of_layers_are_counted_where_they_are_used() {
        let off = own("c", 64, &[]);
        let both = per_layer(&[own("a", 8, &["forward"]), own("b", 20, &["forward"]), off.clone()]);
        let text = "per layer: 8 to 20 bits, channel-patch, sign; 2 of 3 layers reuse";
        assert_eq!((describe_signatures(&both, 0).as_str(), single_length(&both, 0)), (text, None));
        let one = per_layer(&[own("a", 8, &["forward"]), off.clone()]);
        let text = "per layer: 8 bits, channel-patch, sign; 1 of 2 layers reuse";
        assert_eq!((describe_signatures(&one, 0).as_str(), single_length(&one, 0)), (text, Some(8)));
        assert_eq!(describe_signatures(&per_layer(&[off]), 0), "per layer: no layer reuses");
        assert_eq!(describe_signatures(&per_layer(&[]), 0), "per layer");
    }

    #[test]
    fn commands_name_the_file_of_a_configuration_with_layer_tables() {
        assert_eq!(find_file(&run(|_| ()), Path::new("dir"), 0), None);
        let replayed = per_layer(&[]);
        assert_eq!(find_file(&replayed, Path::new("dir"), 0).as_deref(), Some("CONFIG.toml"));
        let command = replayed.replay_command(0, Some("CONFIG.toml"));
        assert_eq!(command, "mercury-analyzer replay TRACE --out RESULTS --config CONFIG.toml");
        let probe = replayed.probe(0, Some("a b.toml"));
        assert!(probe.ends_with(" --probe 'a b.toml'") && !probe.contains("config show"), "{probe}");
        let axes = [("rpq.bits".to_owned(), vec!["8".to_owned()])];
        assert!(replayed.sweep_command(&axes).ends_with("--set 'rpq.bits=8' --config CONFIG.toml"));
    }
}
