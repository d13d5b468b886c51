//! Wrong input gives one clear error and exit code 2, and writes nothing.

mod common;

use common::{TRACER, capture, data_dir, tracer};
use std::path::Path;
use std::process::Command;

fn read_error(mut command: Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{command:?}: {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}

/// Returns the error of `capture` with these arguments, which must write nothing.
fn capture_error(out: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(TRACER);
    command.args(["capture", "--out"]).arg(out).args(arguments);
    let stderr = read_error(command);
    assert!(!out.exists(), "{stderr}");
    stderr
}

#[test]
fn wrong_flags_are_named_before_any_training() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("trace");
    let fashion = ["--model", "vgg13", "--dataset", "fashion-mnist"];
    let with = |more: &[&'static str]| capture_error(&out, &[&fashion[..], more].concat());
    assert!(
        capture_error(&out, &["--model", "vgg12", "--dataset", "fashion-mnist"])
            .contains("[possible values: alexnet, googlenet")
    );
    assert!(
        capture_error(&out, &["--model", "vgg13", "--dataset", "nonesuch"])
            .contains("[possible values: fashion-mnist, mnist")
    );
    assert!(with(&["--data-dir", "/nonesuch"]).contains("python3 data/fetch.py fashion-mnist"));
    assert!(with(&["--capture", "every=0"]).contains("every=0: must be at least 1"));
    assert!(with(&["--capture", "often"]).contains("not one of every=N, steps=N,N,…, epochs, geometric, none"));
    assert!(with(&["--steps", "0"]).contains("--steps: is 0"));
    assert!(with(&["--steps", "3", "--epochs", "3"]).contains("cannot be used with"));
    assert!(with(&["--lr", "nan"]).contains("--lr: is NaN"));
    assert!(with(&["--clip", "0"]).contains("--clip: is 0"));
    assert!(with(&["--label-smoothing", "1"]).contains("--label-smoothing: is 1"));
    assert!(with(&["--schedule", "step"]).contains("--decay-every"));
    assert!(with(&["--device", "tpu"]).contains("not one of cpu, cuda"));
    assert!(with(&["--device", "cuda:99"]).contains("--device: cuda:99 is not available"));
    assert!(with(&["--passes", "input-grad"]).contains("--passes: must contain forward"));
    assert!(with(&["--passes", "backward"]).contains("not one of forward, input-grad, weight-grad"));
    assert!(with(&["--dtype", "bf16"]).contains("not one of f32, f16"));
    assert!(with(&["--max-bytes", "1XB"]).contains("not a size such as 500MB"));
    assert!(with(&["--freeze", "["]).contains("--freeze: error parsing glob '['"));
    assert!(with(&["--group-lr", "fc.*"]).contains("\"fc.*\" is not GLOB=X, such as \"fc.*=0.01\""));
    assert!(with(&["--group-lr", "fc.*=x"]).contains("the rate \"x\" is not a number"));
    assert!(with(&["--group-lr", "fc.*=-1"]).contains("the rate is -1, but must be a number above 0"));
    assert!(with(&["--group-lr", "fc.*=inf"]).contains("the rate is inf, but must be a number above 0"));
    assert!(with(&["--group-lr", "fc.*=0"]).contains("nothing is learnt; give --freeze \"fc.*\" instead"));
    assert!(with(&["--resume"]).contains("not a trace"));
}

#[test]
fn flags_that_do_not_go_with_the_data_are_named() {
    let Some(data) = data_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("trace");
    let with = |model: &str, more: &[&str]| {
        let mut command = tracer(&data, &out);
        command.args(["--model", model, "--dataset", "fashion-mnist"]).args(more);
        let stderr = read_error(command);
        assert!(!out.exists(), "{stderr}");
        stderr
    };
    assert!(with("vgg13", &["--layers", "nonesuch*"]).contains("matches none of features.0"));
    assert!(with("vgg13", &["--batch-size", "70000"]).contains("the data set has 60000 samples"));
    assert!(with("vgg13", &["--input-size", "31"]).contains("--input-size: is 31, but the model needs at least 32"));
    assert!(with("vgg13", &["--freeze", "feature.*"]).contains("--freeze: \"feature.*\" matches no parameter"));
    assert!(with("vgg13", &["--freeze", "feature.*"]).contains("which has features.0.weight, features.0.bias"));
    assert!(with("vgg13", &["--freeze", "*"]).contains("--freeze: matches all parameters, so none is trained"));
    assert!(with("vgg13", &["--group-lr", "fc.*=1"]).contains("--group-lr: \"fc.*\" matches no parameter"));
    let both = ["--freeze", "features.*", "--group-lr", "features.0.*=1"];
    assert!(with("vgg13", &both).contains("\"features.0.*\" matches only parameters that --freeze excludes"));
    assert!(with("transformer", &[]).contains("transformer translates, but the data set has images"));
    assert!(with("vgg13", &["--epochs", "18446744073709551615"]).contains("--epochs: is more than any run can do"));
}

#[test]
fn a_folder_that_holds_something_is_left_alone() {
    let Some(data) = data_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("precious.txt"), "mine").unwrap();
    assert!(read_error(capture(&data, dir.path(), &[])).contains("exists and is not empty"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn weights_of_another_model_are_refused() {
    let Some(data) = data_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    let [weights, out] = ["squeezenet.safetensors", "trace"].map(|name| dir.path().join(name));
    let save = ["--model", "squeezenet1_0", "--steps", "1", "--capture", "none", "--save", weights.to_str().unwrap()];
    let mut command = tracer(&data, &dir.path().join("first"));
    command.args(["--dataset", "fashion-mnist", "--validation-samples", "0"]).args(save);
    common::succeed(command);

    let stderr = read_error(capture(&data, &out, &["--weights", weights.to_str().unwrap()]));
    assert!(stderr.contains("missing: features.2.weight, features.2.bias, features.5.weight"), "{stderr}");
    assert!(stderr.contains("not in the model: classifier.1.bias") && stderr.contains("more"), "{stderr}");
    assert!(
        stderr.contains("of another shape: features.0.weight ([96, 1, 7, 7], the model has [64, 1, 3, 3])"),
        "{stderr}"
    );
    assert!(!out.exists());
    std::fs::write(&weights, "broken").unwrap();
    let stderr = read_error(capture(&data, &out, &["--weights", weights.to_str().unwrap()]));
    assert!(stderr.contains("squeezenet.safetensors: is text, not weights: \"broken\""), "{stderr}");
}

#[test]
fn a_narrower_vgg_is_another_model() {
    let Some(data) = data_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    let [weights, out] = ["vgg.safetensors", "trace"].map(|name| dir.path().join(name).to_str().unwrap().to_owned());
    let model = ["--model", "vgg13", "--dataset", "fashion-mnist", "--input-size", "32"];
    let prepare = |command: &str, more: &[&str]| {
        let mut tracer = Command::new(TRACER);
        tracer.env("OMP_NUM_THREADS", "1").arg(command).arg("--data-dir").arg(&data).args(model).args(more);
        tracer
    };
    let run = ["--out", &out, "--save", &weights, "--steps", "1", "--batch-size", "2", "--validation-samples", "0"];
    common::succeed(prepare("train", &[&run[..], &["--width", "16"]].concat()));

    let evaluated = ["--weights", &weights, "--samples", "4"];
    let stderr = read_error(prepare("evaluate", &evaluated));
    assert!(stderr.contains("classifier.0.weight ([16, 25088], the model has [4096, 25088])"), "{stderr}");
    common::succeed(prepare("evaluate", &[&evaluated[..], &["--width", "16"]].concat()));
    let stderr = read_error(prepare("evaluate", &[&evaluated[..], &["--width", "4097"]].concat()));
    assert!(stderr.contains("--width: is 4097; give 1 to 4096 columns"), "{stderr}");
}
