//! Names of results in comparisons and reports: their labels, or else their differences.

use crate::report::run::{ReportedRun, flat};
use crate::schema::run::TraceIdentity;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Maximum number of differences in a name.
const MOST_DIFFERENCES: usize = 4;
/// Maximum number of characters of a value in a name.
const MOST_CHARACTERS: usize = 60;
/// Facts that come first in a name, in this order; the others follow in alphabetical order.
const FIRST: [&str; 4] = ["model", "dataset", "weights", "seed"];
/// Training settings that are left out of names: the trace states the first five in other fields,
/// and `threads` does not change results.
const OMITTED: [&str; 6] = ["model", "dataset", "seed", "batch_size", "capture", "threads"];
/// The fact that differs between any two traces.
const MANIFEST: &str = "trace";

/// Facts by their name; each text is the fact as it appears in a result's name, such as `seed 3`.
type Facts = BTreeMap<String, String>;

/// Names results, each given by its folder and its run.
///
/// A run with a label has that label as its name. Otherwise the name is the trace's label, or the
/// differences between the traces, followed by the differences between the configurations. The
/// folder is the name if nothing differs, and is appended to equal names.
pub fn name_results(results: &[(&Path, &ReportedRun)]) -> Vec<String> {
    let mut traces: Vec<Facts> = results.iter().map(|(_, run)| read_trace(&run.trace)).collect();
    add_missing(&mut traces);
    let runs: Vec<Facts> = results.iter().map(|(_, run)| read_run(run)).collect();
    let (in_traces, in_runs) = (find_differing(&traces), find_differing(&runs));
    let mut names = Vec::new();
    for (index, (_, run)) in results.iter().enumerate() {
        if let Some(label) = &run.label {
            names.push(label.clone());
            continue;
        }
        let mut parts = match &run.trace.label {
            Some(label) => vec![label.clone()],
            None => describe(&traces[index], &in_traces),
        };
        parts.extend(describe(&runs[index], &in_runs));
        names.push(parts.join(", "));
    }
    let mut unique_names = Vec::new();
    for ((folder, _), name) in results.iter().zip(&names) {
        let is_unique = names.iter().filter(|other| *other == name).count() == 1;
        unique_names.push(match (name.as_str(), is_unique) {
            ("", _) => folder.display().to_string(),
            (_, true) => name.clone(),
            (_, false) => format!("{name} ({})", folder.display()),
        });
    }
    unique_names
}

/// The facts about a trace and its training.
fn read_trace(trace: &TraceIdentity) -> Facts {
    let mut facts = Facts::new();
    let mut insert = |name: &str, value: &str| facts.insert(name.to_owned(), format!("{name} {}", shorten(value)));
    insert("seed", &trace.seed.to_string());
    insert("batch size", &trace.batch_size.to_string());
    insert("captured steps", &summarise_steps(&trace.captured_steps));
    for (name, value) in &trace.settings {
        if !OMITTED.contains(&name.as_str()) {
            insert(&name.replace('_', "-"), value);
        }
    }
    insert(MANIFEST, &trace.manifest_sha256.chars().take(8).collect::<String>());
    // Model and data set need no prefix.
    facts.insert("model".to_owned(), shorten(&trace.model.name));
    facts.insert("dataset".to_owned(), shorten(&trace.dataset.name));
    facts
}

/// Describes a list of steps in a few words.
pub fn summarise_steps(steps: &[u64]) -> String {
    match steps {
        [first, .., last] => format!("{first} to {last} ({} of them)", steps.len()),
        [step] => step.to_string(),
        [] => "none".to_owned(),
    }
}

/// The facts about a run: its configuration and the replayed part of the trace. Keys that differ
/// between the configurations of a sweep are left out.
fn read_run(run: &ReportedRun) -> Facts {
    let mut facts = Facts::new();
    let Some((first, others)) = run.configurations.split_first() else { return facts };
    for (key, value) in flat(first) {
        facts.insert(key.clone(), format!("{key} {}", shorten(&value)));
    }
    for other in others {
        for (section, keys) in other {
            for (key, value) in keys.as_object().into_iter().flatten() {
                if first.get(section).and_then(|section| section.get(key)) != Some(value) {
                    facts.remove(&format!("{section}.{key}"));
                }
            }
        }
    }
    let part = run.part().map_or_else(|| "all of the trace".to_owned(), |flags| shorten(&flags));
    facts.insert("part".to_owned(), part);
    facts
}

/// The first line of a value, cut to [`MOST_CHARACTERS`].
fn shorten(value: &str) -> String {
    let line = value.lines().next().unwrap_or_default().trim_start_matches("# ");
    match line.char_indices().nth(MOST_CHARACTERS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// Adds the facts that a trace lacks but another one has, such as `no weights`.
fn add_missing(traces: &mut [Facts]) {
    let names: BTreeSet<String> = traces.iter().flat_map(|facts| facts.keys().cloned()).collect();
    for facts in traces {
        for name in &names {
            facts.entry(name.clone()).or_insert_with(|| format!("no {name}"));
        }
    }
}

/// Names of the facts that differ between any two results that have them.
fn find_differing(all: &[Facts]) -> Vec<String> {
    let names: BTreeSet<&String> = all.iter().flat_map(Facts::keys).collect();
    let differs = |name: &&String| all.iter().filter_map(|facts| facts.get(*name)).collect::<BTreeSet<_>>().len() > 1;
    let mut found: Vec<String> = names.into_iter().filter(differs).cloned().collect();
    found.sort_by_key(|name| FIRST.iter().position(|first| first == name).unwrap_or(FIRST.len()));
    if found.len() > 1 {
        found.retain(|name| name != MANIFEST);
    }
    found
}

/// The first [`MOST_DIFFERENCES`] differing facts, and the number of the others.
fn describe(facts: &Facts, differing: &[String]) -> Vec<String> {
    let mut words: Vec<String> = differing.iter().filter_map(|name| facts.get(name)).cloned().collect();
    if words.len() > MOST_DIFFERENCES {
        let more = words.len() - MOST_DIFFERENCES;
        words.truncate(MOST_DIFFERENCES);
        words.push(format!("and {more} more"));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn run(change: impl FnOnce(&mut Value)) -> ReportedRun {
        crate::report::run::tests::run(|json| {
            json["trace"]["settings"] = json!({"lr": "0.1", "threads": "2"});
            change(json);
        })
    }

    fn names(runs: &[ReportedRun]) -> Vec<String> {
        let folders = ["a", "b", "c"].map(Path::new);
        name_results(&folders.into_iter().zip(runs).collect::<Vec<_>>())
    }

    #[test]
    fn results_are_named_by_their_differences() {
        let plain = || run(|_| ());
        let bits = |bits: u32| run(move |json| json["configurations"][0]["rpq"]["bits"] = bits.into());
        assert_eq!(names(&[plain()]), ["a"]);
        assert_eq!(names(&[bits(20), bits(32)]), ["rpq.bits 20", "rpq.bits 32"]);
        assert_eq!(names(&[plain(), plain()]), ["a", "b"]);
        assert_eq!(names(&[bits(20), bits(32), bits(20)]), ["rpq.bits 20 (a)", "rpq.bits 32", "rpq.bits 20 (c)"]);
        let part = run(|json| json["measures"]["selection"]["layers"] = json!(["fc.*"]));
        assert_eq!(names(&[plain(), part]), ["all of the trace", "--layers 'fc.*'"]);
    }

    #[test]
    fn weights_and_seeds_come_first_and_threads_are_left_out() {
        let other = run(|json| {
            json["trace"]["manifest_sha256"] = "01".into();
            json["trace"]["seed"] = 2.into();
            json["trace"]["settings"] = json!({"lr": "0.5", "threads": "8", "weights": "w.safetensors"});
        });
        assert_eq!(
            names(&[run(|_| ()), other]),
            ["no weights, seed 1, lr 0.1", "weights w.safetensors, seed 2, lr 0.5"]
        );
        let another = run(|json| json["trace"]["manifest_sha256"] = "0123456789".into());
        assert_eq!(names(&[run(|_| ()), another]), ["trace 00", "trace 01234567"]);
    }

    fn labelled(trace_label: &str, run_label: Option<&str>, bits: u32) -> ReportedRun {
        run(|json| {
            json["trace"]["label"] = trace_label.into();
            json["label"] = run_label.into();
            json["configurations"][0]["rpq"]["bits"] = bits.into();
        })
    }

    #[test]
    fn labels_replace_differences() {
        let runs = [labelled("warm", None, 8), labelled("warm", Some("best"), 9), labelled("cold", None, 8)];
        assert_eq!(names(&runs), ["warm, rpq.bits 8", "best", "cold, rpq.bits 8"]);
    }

    #[test]
    fn a_sweep_is_named_by_the_values_that_its_configurations_share() {
        let sweep = run(|json| {
            let mut other = json["configurations"][0].clone();
            other["rpq"]["bits"] = 30.into();
            json["configurations"].as_array_mut().unwrap().push(other);
            for number in [0, 1] {
                json["configurations"][number]["mcache"]["ways"] = 4.into();
            }
        });
        let replay = run(|json| json["configurations"][0]["rpq"]["bits"] = 7.into());
        assert_eq!(names(&[sweep, replay]), ["mcache.ways 4", "mcache.ways 16"]);
    }

    #[test]
    fn long_names_count_the_facts_that_are_left_out() {
        let other = run(|json| {
            json["trace"]["settings"] = json!({"reuse": format!("# mine\n{}", "x".repeat(99)), "clip": "y".repeat(61)});
            for key in ["ways", "versions", "banks", "read_ports", "entries"] {
                json["configurations"][0]["mcache"][key] = 2.into();
            }
        });
        let long = format!(
            "clip {}…, no lr, reuse mine, mcache.banks 2, mcache.entries 2, mcache.read_ports 2, mcache.versions 2, and 1 more",
            "y".repeat(60)
        );
        let names = names(&[run(|json| json["configurations"][0]["mcache"]["banks"] = 1.into()), other]);
        assert_eq!(names[1], long);
    }
}
