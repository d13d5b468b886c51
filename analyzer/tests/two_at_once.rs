//! Two processes with one output folder: the second is refused, unless the first was killed.

mod common;

use common::place::{Place, files};
use common::process::wait_until;
use std::process::Child;

/// Commands, each with a file that exists once the command holds the lock and works.
const COMMANDS: [(&str, &str); 3] = [
    ("replay trace --rpq.bits 6 --errors all --with bounds --out out", ".mercury-results-out/run.json"),
    ("replay trace --rpq.bits 6 --errors all --with bounds --partition 1/1 --out out", "out/partition.json"),
    ("sweep trace --set rpq.bits=4,6 --out out", "out/sweep.json"),
];

/// Stops a process (SIGSTOP), so that it keeps its lock.
fn stop(child: &Child) {
    signal(child, "STOP");
}

fn signal(child: &Child, name: &str) {
    let status = std::process::Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(status.unwrap().success());
}

#[test]
fn the_second_process_is_refused_and_the_first_continues() {
    for (command, marker) in COMMANDS {
        let place = Place::new();
        place.stdout(&command.replace("--out out", "--out undisturbed"));
        let mut first = place.start(command);
        assert!(wait_until(&mut first, || place.path(marker).exists()), "{command}");
        stop(&first);
        let error = place.error(command);
        assert!(error.contains("is writing to out; wait for it or choose another folder"), "{command}: {error}");
        signal(&first, "CONT");
        assert!(first.wait().unwrap().success(), "{command}");
        assert_eq!(list_files(&place, "out"), list_files(&place, "undisturbed"), "{command}");
    }
    println!("figures: two at once: {} refused", COMMANDS.len());
}

#[test]
fn a_killed_process_releases_its_lock() {
    for (command, marker) in COMMANDS {
        let place = Place::new();
        place.stdout(&command.replace("--out out", "--out undisturbed"));
        let mut first = place.start(command);
        assert!(wait_until(&mut first, || place.path(marker).exists()), "{command}");
        stop(&first);
        first.kill().unwrap();
        first.wait().unwrap();
        place.stdout(command);
        assert_eq!(list_files(&place, "out"), list_files(&place, "undisturbed"), "{command}");
        assert!(!place.path(".mercury-results-out").exists(), "{command}");
    }
}

/// Two processes start at the same time, repeatedly: exactly one succeeds, and the results are
/// right.
#[test]
fn one_of_two_simultaneous_processes_succeeds() {
    let place = Place::new();
    place.stdout("replay trace --rpq.bits 6 --out undisturbed");
    for number in [1, 2] {
        place.stdout(&format!("replay trace --rpq.bits 6 --partition {number}/2 --out parts/{number}"));
    }
    for round in 0..8 {
        for command in ["replay trace --rpq.bits 6", "merge parts"] {
            let command = format!("{command} --out out-{round}");
            let pair = [place.start(&command), place.start(&command)];
            let outputs = pair.map(|child| child.wait_with_output().unwrap());
            let done = outputs.iter().filter(|output| output.status.success()).count();
            assert_eq!(done, 1, "{outputs:?}");
            let refused = outputs.iter().find(|output| !output.status.success()).unwrap();
            assert_eq!(refused.status.code(), Some(2), "{refused:?}");
            assert_eq!(files(&place.path(&format!("out-{round}"))), files(&place.path("undisturbed")));
            std::fs::remove_dir_all(place.path(&format!("out-{round}"))).unwrap();
        }
    }
    println!("figures: two at once: 16 refused");
}

/// The files of a folder and of its subfolder `parts`.
fn list_files(place: &Place, dir: &str) -> Vec<(String, Vec<u8>)> {
    let parts = place.path(dir).join("parts");
    let mut all = common::place::plain_files(&place.path(dir));
    if parts.exists() {
        all.extend(files(&parts));
    }
    all
}
