//! A temporary folder with a trace, in which the program runs.

use mercury_trace::manifest::Sampling;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// A temporary folder with a trace. Commands run in it, so that paths in messages are short.
pub struct Place {
    dir: TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self::with_steps(&[0, 10], &super::SAMPLES)
    }

    /// With a trace of these captured steps and samples.
    pub fn with_steps(steps: &[u64], samples: &[u32]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        super::write_steps(&dir.path().join("trace"), &Sampling::default(), steps, samples, super::value);
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn run(&self, arguments: &str) -> Output {
        let words = arguments.split_whitespace();
        Command::new(env!("CARGO_BIN_EXE_mercury-analyzer")).args(words).current_dir(self.dir.path()).output().unwrap()
    }

    pub fn stdout(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail, and returns its message. It must exit with 2, print no data
    /// and not panic.
    pub fn error(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments}: {stderr}");
        assert!(output.stdout.is_empty(), "{arguments} printed data");
        assert!(!stderr.contains("panicked"), "{stderr}");
        stderr
    }

    pub fn tensor(&self) -> PathBuf {
        self.path("trace/tensors/step=000010/layer=features.3/input.parquet")
    }
}

/// The files of a folder without subfolders: names and contents, sorted by name.
pub fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    assert!(fs::read_dir(dir).unwrap().all(|entry| entry.unwrap().path().is_file()), "{} has folders", dir.display());
    plain_files(dir)
}

/// The files of a folder, without those in subfolders: names and contents, sorted by name.
pub fn plain_files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let mut files: Vec<_> =
        paths.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())).collect();
    files.sort();
    files
}
