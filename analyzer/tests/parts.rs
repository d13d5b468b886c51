//! Results of a configuration do not depend on the number of samples evaluated at a time, nor on
//! the other configurations.

mod common;

use mercury_analyzer::config::Config;
use mercury_analyzer::replay::{ErrorMode, Limit, Measures, PassResult, Replay, Selection};
use mercury_trace::Trace;
use mercury_trace::manifest::Sampling;

fn results(trace: &Trace, configs: &[Config], measures: &Measures, limit: Limit) -> Vec<PassResult> {
    run(&Replay::new(trace, configs, measures).unwrap().with_limit(limit).unwrap())
}

fn run(replay: &Replay) -> Vec<PassResult> {
    let mut results = Vec::new();
    let run = replay.run(
        &replay.units(),
        |_| (),
        |_, unit_results| {
            results.extend(unit_results);
            Ok(())
        },
    );
    run.unwrap();
    replay.finish(results)
}

fn configs(base: &str, variations: &[&str]) -> Vec<Config> {
    let mut configs = Vec::new();
    for variation in variations {
        let keys = format!("{base} {variation}");
        let overrides: Vec<_> = keys.split_whitespace().map(parse_override).collect();
        configs.push(Config::resolve("a test", toml::Table::new(), &overrides).unwrap());
    }
    configs
}

/// Parses `key=value`.
fn parse_override(text: &str) -> (&'static str, String) {
    let (key, value) = text.split_once('=').unwrap();
    (String::leak(key.to_owned()), value.to_owned())
}

#[test]
fn samples_may_come_one_at_a_time_or_all_at_once() {
    let dir = tempfile::tempdir().unwrap();
    common::write_trace(&dir.path().join("trace"), &Sampling::default(), common::value);
    let trace = Trace::open(&dir.path().join("trace")).unwrap();
    let variations = [
        "rpq.bits=3",
        "rpq.bits=6 mcache.entries=4 mcache.ways=2",
        "rpq.bits=6 mcache.entries=8 mcache.ways=2",
        "rpq.bits=6 mcache.entries=16 mcache.ways=4 mcache.index=low-bits",
        "rpq.bits=6 mcache.entries=8 mcache.ways=2 mcache.replacement=lru",
        "rpq.bits=6 mcache.entries=8 mcache.ways=4",
        "rpq.bits=6 mcache.entries=6 mcache.ways=3",
        "rpq.bits=6 mcache.entries=0 rpq.variant=sign+rescale mcache.representative=centroid",
        "rpq.bits=6 mcache.entries=4 mcache.ways=2 mcache.representative=centroid",
        "rpq.bits=9 rpq.variant=centred mcache.entries=4 mcache.ways=1",
        "rpq.bits=5 rpq.variant=sign+magnitude(2) bounds.cosine=0.8 bounds.exact_vectors=4 bounds.sampled_vectors=40",
    ];
    let bases = [
        "",
        "array.dataflow=ws mcache.scope_linear=sample",
        "array.dataflow=ws mcache.scope=sample mcache.scope_linear=sample",
        "array.schedule=synchronous mcache.scope=sample",
        "array.dataflow=ws mcache.scope=batch",
        "array.dataflow=os rpq.granularity=patch mcache.scope_linear=sample",
        "array.dataflow=ws rpq.granularity=sub-vector(5)",
    ];
    let measured =
        [(ErrorMode::All, true), (ErrorMode::Sampled, true), (ErrorMode::None, true), (ErrorMode::None, false)];
    for (base, (errors, bounds)) in bases.iter().flat_map(|base| measured.map(|measured| (base, measured))) {
        let measures = Measures { selection: Selection::default(), errors, bounds };
        let configs = configs(base, &variations);
        let whole = results(&trace, &configs, &measures, Limit::Values(u64::MAX));
        assert!(whole.iter().any(|result| result.counts.mnu > 0) && whole.iter().any(|result| result.counts.hit > 0));
        assert_eq!(results(&trace, &configs, &measures, Limit::Values(0)), whole, "{base}");
        for (number, config) in configs.into_iter().enumerate() {
            let alone = results(&trace, &[config], &measures, Limit::Values(500));
            let found = whole.iter().filter(|result| result.configuration == number);
            let found: Vec<PassResult> = found.map(|found| PassResult { configuration: 0, ..found.clone() }).collect();
            assert_eq!(alone, found, "{base}, {}", variations[number]);
        }
    }
}

/// Covers sweeps with many caches, on arrays that share or do not share their assignment of rows to
/// PE sets, with different passes, and together with caches that replace entries.
#[test]
fn many_caches_on_row_stationary_arrays_are_as_each_alone() {
    let dir = tempfile::tempdir().unwrap();
    common::write_trace(&dir.path().join("trace"), &Sampling::default(), common::value);
    let trace = Trace::open(&dir.path().join("trace")).unwrap();
    let arrays = [
        "array.schedule=synchronous",
        "array.schedule=asynchronous",
        "array.rows=3 array.columns=40",
        "array.dataflow=ws",
        "reuse.passes=[\"forward\"]",
        "reuse.passes=[\"forward\",\"weight-grad\"]",
        "mcache.scope=sample",
    ];
    let sizes =
        (1..18).flat_map(|sets| [1, 2].map(|ways| format!("mcache.entries={} mcache.ways={ways}", sets * ways)));
    let mut variations = Vec::new();
    for size in sizes {
        for array in arrays {
            variations.extend([3, 7].map(|bits| format!("rpq.bits={bits} {array} {size}")));
        }
    }
    for other in [
        "replacement=lru",
        "replacement=fifo mcache.index=low-bits",
        "scope=batch array.dataflow=ws",
        "scope=sample",
        "entries=0",
    ] {
        for entries in [4, 64] {
            variations.push(format!("rpq.bits=7 mcache.entries={entries} mcache.ways=2 mcache.{other}"));
        }
    }
    let configs = configs("", &variations.iter().map(String::as_str).collect::<Vec<_>>());
    let measures = Measures { selection: Selection::default(), errors: ErrorMode::None, bounds: false };
    for limit in [Limit::Values(u64::MAX), Limit::Values(0)] {
        let whole = results(&trace, &configs, &measures, limit);
        for (number, config) in configs.iter().enumerate().filter(|(number, _)| number % 13 == 0 || *number > 470) {
            let alone = results(&trace, std::slice::from_ref(config), &measures, limit);
            let found = whole.iter().filter(|result| result.configuration == number);
            let found: Vec<PassResult> = found.map(|found| PassResult { configuration: 0, ..found.clone() }).collect();
            assert_eq!(alone, found, "{}", variations[number]);
        }
    }
}

#[test]
fn a_memory_limit_changes_no_result_and_its_error_names_the_layer() {
    let dir = tempfile::tempdir().unwrap();
    common::write_trace(&dir.path().join("trace"), &Sampling::default(), common::value);
    let trace = Trace::open(&dir.path().join("trace")).unwrap();
    let measures = Measures { selection: Selection::default(), errors: ErrorMode::All, bounds: true };
    let configs = configs("array.dataflow=ws mcache.scope_linear=sample", &["rpq.bits=6"]);
    let whole = results(&trace, &configs, &measures, Limit::default());
    // The smallest limit that suffices: one sample at a time.
    let fits = |bytes| Replay::new(&trace, &configs, &measures).unwrap().with_limit(Limit::Bytes(bytes)).is_ok();
    let (mut too_little, mut least): (u64, u64) = (1 << 20, 1 << 30);
    while least - too_little > 1 << 10 {
        let middle = u64::midpoint(too_little, least);
        if fits(middle) {
            least = middle;
        } else {
            too_little = middle;
        }
    }
    assert_eq!(results(&trace, &configs, &measures, Limit::Bytes(least)), whole);
    let error = |configs: &[Config], bytes| {
        let replay = Replay::new(&trace, configs, &measures).unwrap().with_limit(Limit::Bytes(bytes));
        replay.err().expect("too little").to_string()
    };
    let message = error(&configs, 1 << 20);
    assert!(message.contains("layer features.0: takes about") && message.contains("for one sample"), "{message}");
    let message = error(&configs, 500_000);
    assert!(message.contains("--memory-limit is 500 KB") && !message.contains("fewer samples"), "{message}");
    // With scope `batch`, all samples of a linear layer must be in memory together.
    let message = error(&self::configs("", &["rpq.bits=6"]), 1 << 20);
    assert!(message.contains("--memory-limit is 2 MB"), "{message}");
}
