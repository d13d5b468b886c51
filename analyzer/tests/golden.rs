//! Replays, sweeps and merges give the bytes that they gave before, but for the version.

use std::path::{Path, PathBuf};
use std::process::Command;

const TRACES: [&str; 3] = ["vgg13", "mobilenet", "text"];

/// Name and flags of each replay.
const REPLAYS: [(&str, &str); 4] = [
    ("ahead", "--preset mercury-ahead --rpq.granularity channel-patch(auto)"),
    ("mercury", ""),
    (
        "ws",
        "--array.dataflow ws --mcache.scope sample --mcache.replacement lru --mcache.entries 64 --mcache.ways 4 \
         --rpq.bits 12",
    ),
    ("os", "--preset patch-os --mcache.scope sample --mcache.representative centroid --rpq.variant centred"),
];

const SWEEP: &str = "--set rpq.bits=6,12 --set mcache.entries=0,16,256 --set mcache.ways=4,16 \
                     --set mcache.replacement=none,fifo --set array.schedule=synchronous,asynchronous";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Runs a command of the program on folders.
fn run(command: &str, folders: &[&Path], flags: &str, out: &Path) {
    let output = Command::new(env!("CARGO_BIN_EXE_mercury-analyzer"))
        .arg(command)
        .args(folders)
        .args(flags.split_whitespace())
        .arg("--out")
        .arg(out)
        .output()
        .unwrap();
    assert!(output.status.success(), "{command} {flags}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A file with the version of the program that wrote it taken out.
fn read_without_version(path: &Path) -> Vec<u8> {
    const WRITER: &[u8] = b"mercury-analyzer ";
    let mut bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(WRITER.len()).position(|window| window == WRITER) {
        at += found + WRITER.len();
        let version = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
        bytes[at..at + version].fill(b'0');
    }
    bytes
}

/// Compares the Parquet files of an output with the golden ones, or makes these anew.
fn check(found: &Path, name: &str) {
    let expected = golden().join("outputs").join(name);
    if std::env::var_os("MERCURY_UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(&expected).unwrap();
        for file in parquet_files(found) {
            std::fs::copy(found.join(&file), expected.join(&file)).unwrap();
        }
        return;
    }
    assert_eq!(parquet_files(found), parquet_files(&expected), "{name}");
    for file in parquet_files(found) {
        let [found, expected] = [found, &expected].map(|folder| read_without_version(&folder.join(&file)));
        assert!(found == expected, "{name}/{file} differs from tests/golden/outputs/{name}/{file}");
    }
}

fn parquet_files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".parquet")).collect();
    names.sort();
    names
}

#[test]
fn replays_are_as_before() {
    let dir = tempfile::tempdir().unwrap();
    for trace in TRACES {
        for (name, flags) in REPLAYS {
            let (name, out) = (format!("{trace}-{name}"), dir.path().join(format!("{trace}-{name}")));
            run("replay", &[&golden().join(trace)], &format!("--errors all --with bounds {flags}"), &out);
            check(&out, &name);
        }
    }
}

#[test]
fn sweeps_are_as_before() {
    let dir = tempfile::tempdir().unwrap();
    for trace in TRACES {
        let out = dir.path().join(trace);
        run("sweep", &[&golden().join(trace)], &format!("--errors all {SWEEP}"), &out);
        check(&out, &format!("{trace}-sweep"));
    }
}

#[test]
fn merged_partitions_are_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let partitions = [1, 2, 3].map(|number| dir.path().join(format!("part-{number}")));
    for (number, partition) in (1..).zip(&partitions) {
        let flags = format!("--errors all --with bounds --partition {number}/3");
        run("replay", &[&golden().join("text")], &flags, partition);
    }
    let out = dir.path().join("merged");
    run("merge", &partitions.each_ref().map(PathBuf::as_path), "", &out);
    check(&out, "text-mercury");
}
