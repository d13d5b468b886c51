//! Full and read-only disks: a clear error, no partial output, and earlier files intact.
#![cfg(unix)]

mod common;

use common::place::{Place, files};
use std::collections::BTreeMap;
use std::fs;

/// All files in a place and its subfolders, by path.
fn read_all(place: &Place) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![place.path("")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.display().to_string(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

const COMMANDS: [&str; 4] = [
    "replay trace --rpq.bits 6 --errors all --with bounds --out out",
    "replay trace --rpq.bits 6 --errors all --with bounds --partition 1/1 --out out",
    "sweep trace --set rpq.bits=4,6 --set mcache.ways=1,2,4 --out out",
    "merge part-1 part-2 --out out",
];

fn prepare_place() -> Place {
    let place = Place::new();
    for number in [1, 2] {
        let replay = "replay trace --rpq.bits 6 --errors all --with bounds";
        place.stdout(&format!("{replay} --partition {number}/2 --out part-{number}"));
    }
    place
}

/// Limits the size of files, from 0 blocks of 512 bytes to almost enough.
#[test]
fn on_a_full_disk_the_error_says_so_and_earlier_files_are_intact() {
    let place = prepare_place();
    let before = read_all(&place);
    let (mut refused, mut done) = (0, 0);
    for command in COMMANDS {
        place.stdout(&command.replace("--out out", "--out undisturbed"));
        let expected = common::place::plain_files(&place.path("undisturbed"));
        fs::remove_dir_all(place.path("undisturbed")).unwrap();
        for blocks in [0, 1, 4, 8, 12, 16, 20, 24, 32] {
            let output = place.limited(&format!("-f {blocks}"), command);
            let stderr = String::from_utf8(output.stderr).unwrap();
            if output.status.success() {
                done += 1;
                assert_eq!(common::place::plain_files(&place.path("out")), expected);
            } else {
                refused += 1;
                assert_eq!(output.status.code(), Some(2), "{command}, {blocks} blocks: {stderr}");
                assert!(stderr.to_lowercase().contains("file too large"), "{command}, {blocks} blocks: {stderr}");
                assert_eq!(stderr.lines().count(), 1, "more than one line: {stderr}");
                // Without the limit, the command continues or begins anew.
                place.stdout(command);
                assert_eq!(common::place::plain_files(&place.path("out")), expected);
            }
            fs::remove_dir_all(place.path("out")).unwrap();
            assert!(read_all(&place) == before, "{command}, {blocks} blocks: something else was changed or left");
        }
    }
    assert!(refused > 10 && done > 0, "{refused} refused, {done} done");
    println!("figures: replay, sweep, merge on a full disk: {refused} refused, {done} done, 0 losses");
}

/// The same on a small disk, where even folders and small files may not fit.
#[test]
fn on_a_small_disk_the_error_says_so_and_the_command_continues_later() {
    let place = prepare_place();
    let before = read_all(&place);
    let (mut refused, mut done) = (0, 0);
    for command in COMMANDS {
        let command = command.replace("--out out", "--out small/out");
        place.stdout(&command.replace("small/out", "undisturbed"));
        let expected = common::place::plain_files(&place.path("undisturbed"));
        fs::remove_dir_all(place.path("undisturbed")).unwrap();
        for kib in [4, 8, 12, 16, 24, 32, 48, 64, 96, 128] {
            // The smallest disk has too few inodes even for folders.
            let options = if kib == 4 { "nr_inodes=2" } else { "mode=755" };
            let Some(ran) = place.on_small_disk(kib, options, &command) else {
                mercury_testing::report_skip("no disk may be mounted here (unshare, mount)");
                return;
            };
            let stderr = String::from_utf8(ran.first.stderr).unwrap();
            if ran.first.status.success() {
                done += 1;
            } else {
                refused += 1;
                assert_eq!(ran.first.status.code(), Some(2), "{command}, {kib} KiB: {stderr}");
                let says_so = ["No space left on device", "no storage space"].iter().any(|text| stderr.contains(text));
                assert!(says_so, "{command}, {kib} KiB: {stderr}");
                assert_eq!(stderr.lines().count(), 1, "more than one line: {stderr}");
                assert!(!ran.left.iter().any(|name| name.ends_with("SHA256SUMS")), "{command}: {:?}", ran.left);
                assert!(ran.again.status.success(), "{command}: {}", String::from_utf8_lossy(&ran.again.stderr));
            }
            assert_eq!(common::place::plain_files(&place.path("copied")), expected, "{command}, {kib} KiB");
            fs::remove_dir_all(place.path("copied")).unwrap();
            fs::remove_dir(place.path("small")).unwrap();
            assert!(read_all(&place) == before, "{command}, {kib} KiB: something else was changed or left");
        }
    }
    assert!(refused > 10 && done > 0, "{refused} refused, {done} done");
    println!("figures: replay, sweep, merge on a full disk: {refused} refused, {done} done, 0 losses");
}

/// Root must give up a capability first: it may write anywhere.
#[test]
fn in_a_folder_without_write_permission_the_error_comes_before_the_work() {
    use std::os::unix::fs::PermissionsExt;
    let place = prepare_place();
    let locked = place.path("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    for command in COMMANDS {
        let Some(output) = place.without_write_anywhere(&command.replace("--out out", "--out locked/out")) else {
            mercury_testing::report_skip("this user may write anywhere, and setpriv is missing");
            return;
        };
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{command}: {error}");
        assert!(error.contains("choose another with --out"), "{error}");
    }
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(files(&locked).is_empty());
}

#[test]
fn on_a_read_only_disk_the_error_comes_before_the_work() {
    let place = prepare_place();
    for command in COMMANDS {
        let command = command.replace("--out out", "--out small/out");
        let Some(ran) = place.on_small_disk(64, "ro", &command) else {
            mercury_testing::report_skip("no disk may be mounted here (unshare, mount)");
            return;
        };
        let stderr = String::from_utf8(ran.first.stderr).unwrap();
        assert_eq!(ran.first.status.code(), Some(2), "{command}: {stderr}");
        assert!(stderr.to_lowercase().contains("read-only file"), "{command}: {stderr}");
        assert!(stderr.contains("choose another with --out"), "{command}: {stderr}");
        assert!(ran.left.is_empty() && ran.again.status.success(), "{command}");
        fs::remove_dir_all(place.path("copied")).unwrap();
    }
}
