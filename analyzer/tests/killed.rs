//! Commands that are killed (SIGKILL) at random moments and run again.
//!
//! Corrupt files are never accepted, completed work is not repeated, and the final results equal
//! those of an undisturbed run byte for byte. `MERCURY_KILLS` is the number of kills per command: 4
//! by default, 20 in `make reliability`.
#![cfg(unix)]

mod common;

use common::place::{Place, plain_files};
use common::process::kill_after;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

fn count_kills() -> u32 {
    std::env::var("MERCURY_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

/// A random moment within a run.
fn draw_moment(whole: Duration) -> Duration {
    whole.mul_f64(RandomState::new().hash_one(0) as f64 / u64::MAX as f64)
}

/// The files of completed units: name, inode and contents. A unit that was evaluated again has a
/// new inode.
fn list_parts(dir: &Path) -> Vec<(String, u64, Vec<u8>)> {
    let parts = dir.join("parts");
    let mut found = if parts.exists() { plain_files(&parts) } else { Vec::new() };
    found.retain(|(name, _)| !name.starts_with('.'));
    let number = |name: &str| parts.join(name).metadata().unwrap().ino();
    found.into_iter().map(|(name, bytes)| (name.clone(), number(&name), bytes)).collect()
}

/// Kills `command` at random moments and runs it again: to be killed again while it continues, or
/// to its end. `kept` is the folder of its completed units.
fn kill_and_rerun(name: &str, place: &Place, command: &str, kept: &str) {
    let start = Instant::now();
    place.stdout(&command.replace("--out out", "--out undisturbed"));
    let whole = start.elapsed();
    let expected = plain_files(&place.path("undisturbed"));
    let (mut killed, mut went_on) = (0, 0);
    // A round in which the command ended before the kill does not count.
    for round in 0..3 * count_kills() {
        if killed == count_kills() {
            break;
        }
        let before = list_parts(&place.path(kept));
        let moment = draw_moment(whole);
        let ended = kill_after(place.start(command), moment);
        killed += u32::from(!ended);
        let after = list_parts(&place.path(kept));
        // Completed units are intact, until the whole command is complete.
        if !place.path("out/SHA256SUMS").exists() {
            for part in &before {
                assert!(
                    after.contains(part),
                    "{command}: {} is lost or was done again, killed after {moment:?}",
                    part.0
                );
            }
            // Incomplete results are refused.
            assert_eq!(place.run("compare out undisturbed").status.code(), Some(2), "{command}");
            assert_eq!(place.run("verify out").status.code(), Some(2), "{command}");
        }
        went_on += u32::from(!before.is_empty() && after.len() >= before.len());
        if round % 3 == 2 || ended {
            finish(place, command, &expected);
            std::fs::remove_dir_all(place.path("out")).unwrap();
        }
    }
    finish(place, command, &expected);
    println!("figures: {name}: killed {killed} times, resumed from finished work {went_on} times, 0 losses");
}

/// Runs the command to its end.
fn finish(place: &Place, command: &str, expected: &[(String, Vec<u8>)]) {
    // The file that is written last.
    let last = if command.starts_with("sweep") { "out/run.json" } else { "out/SHA256SUMS" };
    if !place.path(last).exists() {
        place.stdout(command);
    }
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let found = plain_files(&place.path("out"));
    assert_eq!(names(&found), names(expected), "{command}");
    assert!(found == expected, "{command}: results differ from the undisturbed run's");
    place.stdout("verify out");
    if !list_hidden(place).is_empty() {
        // The command was killed after it had moved the results: the next run is refused, but
        // removes the rest.
        assert_eq!(place.run(command).status.code(), Some(2), "{command}");
    }
    assert!(list_hidden(place).is_empty(), "{command} leaves {:?}", list_hidden(place));
}

/// Names of hidden folders and files that are left.
fn list_hidden(place: &Place) -> Vec<String> {
    let entries = std::fs::read_dir(place.path("")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with('.')).collect()
}

#[test]
fn a_replay_that_is_killed() {
    let place = Place::new();
    kill_and_rerun(
        "replay",
        &place,
        "replay trace --rpq.bits 6 --errors all --with bounds --out out",
        ".mercury-results-out",
    );
}

#[test]
fn a_partition_that_is_killed() {
    let place = Place::new();
    let replay = "replay trace --rpq.bits 6 --errors all --with bounds --partition 1/2 --out out";
    kill_and_rerun("replay --partition", &place, replay, "out");
}

#[test]
fn a_sweep_that_is_killed() {
    let place = Place::new();
    let sweep = "sweep trace --set rpq.bits=4,6,20 --set mcache.ways=1,4 --mcache.entries 16 --out out";
    kill_and_rerun("sweep", &place, sweep, "out");
}

#[test]
fn a_merge_that_is_killed() {
    let place = Place::new();
    for part in ["1/2", "2/2"] {
        let out = part.replace('/', "-");
        place.stdout(&format!("replay trace --rpq.bits 6 --partition {part} --out part-{out}"));
    }
    kill_and_rerun("merge", &place, "merge part-1-2 part-2-2 --out out", "nothing is kept");
    place.stdout("replay trace --rpq.bits 6 --out single");
    assert_eq!(plain_files(&place.path("out")), plain_files(&place.path("single")));
}
