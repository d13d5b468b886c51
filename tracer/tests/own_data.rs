//! Tests of the command line with the user's own images and with pretrained weights.

mod common;

use common::{succeed, tracer};
use image::{GrayImage, Luma};
use mercury_trace::Trace;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Writes small images with these names; names without `.png` become other files.
fn write_photos(dir: &Path, names: &[&str]) {
    for (shade, name) in names.iter().enumerate() {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if path.extension().is_some_and(|suffix| suffix == "png") {
            GrayImage::from_pixel(40, 40, Luma([20 * shade as u8])).save(&path).unwrap();
        } else {
            fs::write(&path, "something else").unwrap();
        }
    }
}

/// Prepares one training step on a folder of images.
fn training(folder: &Path, out: &Path) -> Command {
    let mut command = tracer(Path::new("unused"), out);
    command.args(["--model", "vgg13", "--width", "16", "--dataset", "images", "--input-size", "32"]);
    command.args(["--batch-size", "2", "--steps", "1", "--capture", "none"]);
    command.arg("--train-dir").arg(folder).arg("--validation-dir").arg(folder);
    command
}

/// Returns the messages of a command that must end with exit code 2.
fn refusal(mut command: Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    stderr
}

#[test]
fn classes_and_left_out_files_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let [folder, out] = ["photos", "trace"].map(|name| dir.path().join(name));
    let others = ["b/1.webp", "b/2.BMP", "notes"];
    write_photos(&folder, &[&["a/1.png", "b/1.png", "c/1.png", "d/1.png", "d/2.png"][..], &others].concat());
    let output = succeed(training(&folder, &out));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let left_out = "3 files not named .jpg, .jpeg or .png (1 without suffix, 1 .bmp, 1 .webp)";
    let first = format!("images: 5 training samples; classes: 4 (a, b, c, ...); left out: {left_out}");
    assert_eq!(stderr.lines().next(), Some(first.as_str()), "{stderr}");
    let trace = Trace::open(&out).unwrap();
    let description = &trace.manifest().dataset.description;
    assert_eq!(description["classes"], "4 (a, b, c, ...)");
    assert_eq!(description["left out"], left_out);
}

#[test]
fn the_classes_of_a_flat_folder_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let [folder, out] = ["photos", "trace"].map(|name| dir.path().join(name));
    write_photos(&folder, &["1_x.png", "2_x.png", "3_x.png", "4_x.png"]);
    let stderr = String::from_utf8(succeed(training(&folder, &out)).stderr).unwrap();
    assert!(stderr.contains("each of its 4 images is its own class"), "{stderr}");
    assert!(stderr.contains("images: 4 training samples; classes: 4 by the files' names (1, 2, 3, ...)\n"), "{stderr}");
}

#[test]
fn a_class_without_images_is_warned_of_once() {
    let dir = tempfile::tempdir().unwrap();
    let [folder, out] = ["photos", "trace"].map(|name| dir.path().join(name));
    write_photos(&folder, &["a/1.png", "b/1.png", "c/notes"]);
    let stderr = String::from_utf8(succeed(training(&folder, &out)).stderr).unwrap();
    let warning = format!("warning: {}: holds no image, so it is not a class\n", folder.join("c").display());
    assert_eq!(stderr.matches(&warning).count(), 1, "{stderr}");
    assert_eq!(stderr.matches("holds no image").count(), 1, "{stderr}");
}

#[test]
fn folders_of_parts_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let [folder, out] = ["photos", "trace"].map(|name| dir.path().join(name));
    write_photos(&folder, &["train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/1.png"]);
    let stderr = refusal(training(&folder, &out));
    assert!(stderr.contains("did you mean --train-dir ") && stderr.contains("/photos/val?"), "{stderr}");
    assert!(!out.exists());
    succeed({
        let mut command = training(&folder.join("train"), &out);
        command.arg("--quiet");
        command
    });
}

#[test]
fn weights_of_other_formats_are_read_or_named() {
    let dir = tempfile::tempdir().unwrap();
    let [folder, out, pointer] = ["photos", "trace", "w.safetensors"].map(|name| dir.path().join(name));
    write_photos(&folder, &["a/1.png", "b/1.png"]);
    let with = |weights: &Path| {
        let mut command = training(&folder, &out);
        command.arg("--weights").arg(weights);
        command
    };
    fs::write(&pointer, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n").unwrap();
    let stderr = refusal(with(&pointer));
    assert!(stderr.contains("w.safetensors: is a Git LFS pointer") && stderr.contains("git lfs pull"), "{stderr}");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/weights");
    let stderr = refusal(with(&fixtures.join("plain.pth")));
    assert!(stderr.contains("plain.pth: does not fit the model: missing: features.0.weight"), "{stderr}");
    assert!(!out.exists());

    // The tracer's own weights, with the names of a wrapper.
    let saved = dir.path().join("saved.safetensors");
    let mut command = training(&folder, &out);
    command.arg("--save").arg(&saved);
    succeed(command);
    let tensors = tch::Tensor::read_safetensors(&saved).unwrap();
    let wrapped: Vec<_> = tensors.into_iter().map(|(name, tensor)| (format!("module.{name}"), tensor)).collect();
    tch::Tensor::write_safetensors(&wrapped, &saved).unwrap();
    fs::remove_dir_all(&out).unwrap();
    let stderr = String::from_utf8(succeed(with(&saved)).stderr).unwrap();
    let line = "saved.safetensors: 26 tensors, safetensors; prefix \"module.\" removed from names\n";
    assert!(stderr.contains(line), "{stderr}");
}
