//! Tests of completions, manual pages and help.

use std::fs;
use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mercury-tracer")).args(arguments).output().unwrap()
}

fn stdout(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn completions_know_models_and_manual_pages_every_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = stdout(&["completions", shell]);
        assert!(script.contains("batch-size"), "{shell}");
        // The other two shells do not complete values.
        if ["bash", "fish", "zsh"].contains(&shell) {
            assert!(script.contains("mobilenet_v2"), "{shell}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    stdout(&["man", "--out", dir.path().to_str().unwrap()]);
    let page = fs::read_to_string(dir.path().join("mercury-tracer-capture.1")).unwrap();
    assert!(page.contains("Example"));
}

#[test]
fn every_command_s_help_has_an_example() {
    for command in ["", "capture", "train", "evaluate", "models", "datasets", "completions", "man"] {
        let arguments: Vec<&str> = [command, "--help"].into_iter().filter(|word| !word.is_empty()).collect();
        assert!(stdout(&arguments).contains("Example"), "{command}");
    }
}

#[test]
fn a_mistyped_model_gets_a_suggestion() {
    let output = run(&["capture", "--model", "resnet5", "--dataset", "fashion-mnist", "--out", "nowhere"]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("a similar value exists: 'resnet50'"), "{stderr}");
}
