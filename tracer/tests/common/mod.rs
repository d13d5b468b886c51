//! What the tests of the binary share.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub const TRACER: &str = env!("CARGO_BIN_EXE_mercury-tracer");

/// The data folder, or a loud message where the data set was not fetched.
pub fn data_dir() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data");
    if dir.join("fashion-mnist/t10k-labels-idx1-ubyte").exists() {
        return Some(dir);
    }
    eprintln!("SKIPPED: data/fashion-mnist is missing; fetch it with `python3 data/fetch.py fashion-mnist`");
    None
}

/// `mercury-tracer capture`. On one thread each, as tests run side by side.
pub fn tracer(data: &Path, out: &Path) -> Command {
    let mut command = Command::new(TRACER);
    command.env("OMP_NUM_THREADS", "1").arg("capture").arg("--data-dir").arg(data).arg("--out").arg(out);
    command
}

/// `mercury-tracer capture` of VGG-13 on Fashion-MNIST, three small steps unless said otherwise.
pub fn capture(data: &Path, out: &Path, more: &[&str]) -> Command {
    let mut command = tracer(data, out);
    command.args(["--model", "vgg13", "--dataset", "fashion-mnist"]).args(more);
    for (flag, value) in
        [("--steps", "3"), ("--capture", "every=2"), ("--batch-size", "4"), ("--validation-samples", "20")]
    {
        if !more.contains(&flag) {
            command.args([flag, value]);
        }
    }
    command
}

/// A command's output; panics with its messages where it failed.
pub fn succeed(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The analyzer's binary, which a build of the whole workspace puts beside the tracer's.
pub fn analyzer() -> Command {
    let path = Path::new(TRACER).with_file_name("mercury-analyzer");
    assert!(path.exists(), "{} is missing: run the tests with `cargo test --workspace`", path.display());
    Command::new(path)
}
