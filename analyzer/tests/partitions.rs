//! Merged partitions equal a single replay, for any number of partitions and any order of merging.

mod common;

use common::place::{Place, files};
use mercury_analyzer::partition::merge;
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};
use std::fs;
use std::path::PathBuf;

/// Replays each of `count` partitions into its own folder, and returns the names of the folders.
fn replay_partitions(place: &Place, count: usize, flags: &str) -> Vec<String> {
    let part = |number: usize| {
        let out = format!("part-{number}-of-{count}");
        place.stdout(&format!("replay trace --partition {number}/{count} --out {out} {flags}"));
        out
    };
    (1..=count).map(part).collect()
}

/// Flags that cover all and sampled errors, bounds, layers that are switched off, scopes beyond a sample, and
/// growing signatures.
const RUNS: [&str; 4] = [
    "--rpq.bits 6 --errors all --with bounds",
    "--rpq.bits 6 --stop.window 1 --bits.patience 2 --with bounds",
    "--array.dataflow ws --mcache.scope batch --rpq.variant sign+rescale --mcache.representative centroid --errors all",
    "--rpq.bits 4 --steps 0 --mcache.entries 4 --mcache.ways 2",
];

#[test]
fn merged_partitions_are_the_single_run_byte_for_byte() {
    let place = Place::new();
    for (run, flags) in RUNS.iter().enumerate() {
        let single = place.path(&format!("single-{run}"));
        let rows = place.stdout(&format!("replay trace --out single-{run} {flags} --format csv"));
        for count in [1, 2, 3, 7] {
            let mut dirs = replay_partitions(&place, count, flags);
            // An arbitrary order.
            dirs.rotate_left((run + 1) % count);
            if count > 2 {
                dirs.swap(0, count - 2);
            }
            let merged = place.stdout(&format!("merge {} --out merged --format csv", dirs.join(" ")));
            assert_eq!(merged, rows);
            assert_eq!(files(&place.path("merged")), files(&single), "{flags}, {count} partitions");
            place.stdout("verify merged");
            for dir in dirs.iter().map(String::as_str).chain(["merged"]) {
                fs::remove_dir_all(place.path(dir)).unwrap();
            }
        }
    }
    println!("figures: partitions: {} merged results of {} equal the single run", 4 * RUNS.len(), 4 * RUNS.len());
}

#[test]
fn partitions_merge_in_any_order() {
    let place = Place::new();
    let dirs: Vec<PathBuf> = replay_partitions(&place, 7, "--rpq.bits 6").iter().map(|dir| place.path(dir)).collect();
    let expected = merge::read(&dirs).unwrap();
    let mut runner = TestRunner::new(Cases::with_cases(40));
    let shuffled = Just(dirs).prop_shuffle();
    runner
        .run(&shuffled, |dirs| {
            let merged = merge::read(&dirs).unwrap();
            prop_assert_eq!((&merged.run, &merged.results), (&expected.run, &expected.results));
            Ok(())
        })
        .unwrap();
}

#[test]
fn each_unit_is_in_one_partition_and_more_partitions_than_units_are_fine() {
    let place = Place::new();
    place.stdout("replay trace --out single --steps 0 --layers features.*");
    let dirs = replay_partitions(&place, 9, "--steps 0 --layers features.*");
    let parts = |dir: &String| fs::read_dir(place.path(dir).join("parts")).map_or(0, Iterator::count);
    assert!(dirs.iter().all(|dir| parts(dir) <= 1));
    place.stdout(&format!("merge {} --out merged", dirs.join(" ")));
    assert_eq!(files(&place.path("merged")), files(&place.path("single")));
}

#[test]
fn partitions_that_do_not_belong_together_are_refused_by_name() {
    let place = Place::new();
    let dirs = replay_partitions(&place, 3, "--rpq.bits 6").join(" ");
    let mut report = String::new();
    let mut refuse = |what: &str, arguments: &str| {
        report += &format!("# {what}\n$ {arguments}\n{}\n", place.error(arguments));
        assert!(!place.path("merged").exists());
    };
    refuse("missing", "merge part-1-of-3 part-3-of-3 --out merged");
    refuse("twice", &format!("merge {dirs} part-2-of-3 --out merged"));
    place.stdout("replay trace --partition 2/2 --rpq.bits 6 --out part-2-of-2");
    refuse("of another split", "merge part-1-of-3 part-2-of-2 part-3-of-3 --out merged");
    place.stdout("replay trace --partition 2/3 --rpq.bits 7 --out part-other");
    refuse("of another configuration", "merge part-1-of-3 part-other part-3-of-3 --out merged");
    refuse("no partition", "merge part-1-of-3 trace --out merged");
    refuse("no folder", "merge part-1-of-3 nonesuch --out merged");
    refuse("no such partition", "replay trace --partition 4/3 --out merged");
    refuse("no partitions", "replay trace --partition 1/0 --out merged");
    refuse("folder of another partition", "replay trace --partition 3/3 --rpq.bits 6 --out part-2-of-3");
    refuse("printed rows of a part", "replay trace --partition 1/3 --format csv --out merged");
    fs::remove_file(place.path("part-2-of-3/SHA256SUMS")).unwrap();
    refuse("not complete", &format!("merge {dirs} --out merged"));
    place.stdout("replay trace --partition 2/3 --rpq.bits 6 --out part-2-of-3");
    place.stdout(&format!("merge {dirs} --out whole"));
    let parts = place.path("part-2-of-3/parts");
    let part = fs::read_dir(&parts).unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(&part).unwrap();
    fs::write(&part, text.replacen("\"hit\":", "\"hit\":1", 1)).unwrap();
    refuse("damaged", &format!("merge {dirs} --out merged"));
    fs::remove_file(&part).unwrap();
    refuse("gone", &format!("merge {dirs} --out merged"));
    let mut settings = insta::Settings::clone_current();
    settings.add_filter("[0-9a-f]{64}", "[sum]");
    settings.bind(|| insta::assert_snapshot!(report));
}
