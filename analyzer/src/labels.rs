//! Names of results that are shown side by side: their labels, or else what they differ in.

use crate::report::run::{ReportedRun, flat};
use crate::schema::run::TraceIdentity;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Most differences in a name.
const MOST_DIFFERENCES: usize = 4;
/// Most characters of a value in a name.
const MOST_CHARACTERS: usize = 60;
/// Facts that a name begins with; the others follow by the alphabet.
const FIRST: [&str; 4] = ["model", "dataset", "weights", "seed"];
/// Settings of a training that a trace has under another name, and the one that belongs to the machine.
const REPEATED: [&str; 6] = ["model", "dataset", "seed", "batch_size", "capture", "threads"];
/// The fact that no two traces share.
const MANIFEST: &str = "trace";

/// Facts by name; each text is the fact as a name has it, such as `seed 3`.
type Facts = BTreeMap<String, String>;

/// Names of results, each given as its folder and its run.
///
/// A run's label is its name. Otherwise the trace's label, or what the traces differ in, is followed by what the
/// configurations differ in. The folder is the name where nothing differs, and is added where names are equal.
pub fn name_results(results: &[(&Path, &ReportedRun)]) -> Vec<String> {
    let mut traces: Vec<Facts> = results.iter().map(|(_, run)| read_trace(&run.trace)).collect();
    add_missing(&mut traces);
    let runs: Vec<Facts> = results.iter().map(|(_, run)| read_run(run)).collect();
    let (in_traces, in_runs) = (find_differing(&traces), find_differing(&runs));
    let mut names = Vec::new();
    for (place, (_, run)) in results.iter().enumerate() {
        if let Some(label) = &run.label {
            names.push(label.clone());
            continue;
        }
        let mut parts = match &run.trace.label {
            Some(label) => vec![label.clone()],
            None => describe(&traces[place], &in_traces),
        };
        parts.extend(describe(&runs[place], &in_runs));
        names.push(parts.join(", "));
    }
    let mut told_apart = Vec::new();
    for ((folder, _), name) in results.iter().zip(&names) {
        let is_unique = names.iter().filter(|other| *other == name).count() == 1;
        told_apart.push(match (name.as_str(), is_unique) {
            ("", _) => folder.display().to_string(),
            (_, true) => name.clone(),
            (_, false) => format!("{name} ({})", folder.display()),
        });
    }
    told_apart
}

/// What a trace is of.
fn read_trace(trace: &TraceIdentity) -> Facts {
    let mut facts = Facts::new();
    let mut insert = |name: &str, value: &str| facts.insert(name.to_owned(), format!("{name} {}", shorten(value)));
    insert("seed", &trace.seed.to_string());
    insert("batch size", &trace.batch_size.to_string());
    insert("captured steps", &summarise_steps(&trace.captured_steps));
    for (name, value) in &trace.settings {
        if !REPEATED.contains(&name.as_str()) {
            insert(&name.replace('_', "-"), value);
        }
    }
    insert(MANIFEST, &trace.manifest_sha256.chars().take(8).collect::<String>());
    // These say by themselves what they are of.
    facts.insert("model".to_owned(), shorten(&trace.model.name));
    facts.insert("dataset".to_owned(), shorten(&trace.dataset.name));
    facts
}

/// Steps in a few words.
pub fn summarise_steps(steps: &[u64]) -> String {
    match steps {
        [first, .., last] => format!("{first} to {last} ({} of them)", steps.len()),
        [step] => step.to_string(),
        [] => "none".to_owned(),
    }
}

/// What was replayed, and how; without the keys on which the configurations of a sweep differ.
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

/// The first line of a value, up to a length.
fn shorten(value: &str) -> String {
    let line = value.lines().next().unwrap_or_default().trim_start_matches("# ");
    match line.char_indices().nth(MOST_CHARACTERS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// Says of each trace which facts of others it lacks, such as `no weights`.
fn add_missing(traces: &mut [Facts]) {
    let names: BTreeSet<String> = traces.iter().flat_map(|facts| facts.keys().cloned()).collect();
    for facts in traces {
        for name in &names {
            facts.entry(name.clone()).or_insert_with(|| format!("no {name}"));
        }
    }
}

/// Names of the facts on which those who have them differ.
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

/// The first of the differing facts, and how many more there are.
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
    fn results_are_named_by_what_they_differ_in() {
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
    fn weights_and_seeds_come_first_and_threads_are_none_of_it() {
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

    #[test]
    fn labels_stand_in_place_of_differences() {
        let labelled = |of_trace: &str, of_run: Option<&str>, bits: u32| {
            run(|json| {
                json["trace"]["label"] = of_trace.into();
                json["label"] = of_run.into();
                json["configurations"][0]["rpq"]["bits"] = bits.into();
            })
        };
        let runs = [labelled("warm", None, 8), labelled("warm", Some("best"), 9), labelled("cold", None, 8)];
        assert_eq!(names(&runs), ["warm, rpq.bits 8", "best", "cold, rpq.bits 8"]);
    }

    #[test]
    fn a_sweep_is_named_by_what_all_of_its_configurations_have() {
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
    fn long_names_say_how_much_is_left_out() {
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
