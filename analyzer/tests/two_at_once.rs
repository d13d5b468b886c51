//! Two processes that would write into one folder: the second is refused, and a killed one is not in the way.

mod common;

use common::place::{Place, files};
use common::process::wait_until;
use std::process::Child;

/// Commands, each with what tells that it has the lock and is at work.
const COMMANDS: [(&str, &str); 3] = [
    ("replay trace --rpq.bits 6 --out out", ".mercury-results-out/run.json"),
    ("replay trace --rpq.bits 6 --partition 1/1 --out out", "out/partition.json"),
    ("sweep trace --set rpq.bits=4,6 --out out", "out/sweep.json"),
];

/// Stops a process, so that it holds what it has.
fn stop(child: &Child) {
    signal(child, "STOP");
}

fn signal(child: &Child, name: &str) {
    let status = std::process::Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(status.unwrap().success());
}

#[test]
fn the_second_is_refused_and_the_first_goes_on() {
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
        assert_eq!(files_of(&place, "out"), files_of(&place, "undisturbed"), "{command}");
    }
    println!("figures: two at once: {} refused", COMMANDS.len());
}

#[test]
fn one_that_was_killed_is_not_in_the_way() {
    for (command, marker) in COMMANDS {
        let place = Place::new();
        place.stdout(&command.replace("--out out", "--out undisturbed"));
        let mut first = place.start(command);
        assert!(wait_until(&mut first, || place.path(marker).exists()), "{command}");
        stop(&first);
        first.kill().unwrap();
        first.wait().unwrap();
        place.stdout(command);
        assert_eq!(files_of(&place, "out"), files_of(&place, "undisturbed"), "{command}");
        assert!(!place.path(".mercury-results-out").exists(), "{command}");
    }
}

/// Both begin at once, many times over: one of them does it, and nothing is mixed up.
#[test]
fn of_two_that_begin_at_once_one_does_it() {
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

/// All files, those of folders in it too.
fn files_of(place: &Place, dir: &str) -> Vec<(String, Vec<u8>)> {
    let parts = place.path(dir).join("parts");
    let mut all = common::place::plain_files(&place.path(dir));
    if parts.exists() {
        all.extend(files(&parts));
    }
    all
}
