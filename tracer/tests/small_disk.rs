//! Captures on a disk that is too small, and two captures into one folder at the same time.
#![cfg(unix)]

mod common;

use common::{TRACER, data_dir, read_files, read_results, report_skip, succeed, tracer, verify_trace};
use std::path::Path;
use std::process::{Command, Stdio};

fn capturing(data: &Path, out: &Path) -> Command {
    let mut command = tracer(data, out);
    command.args(["--model", "squeezenet1_0", "--dataset", "fashion-mnist", "--steps", "9", "--batch-size", "4"]);
    command.args(["--capture", "every=2", "--samples", "1", "--filters", "2", "--checkpoint-every", "3"]);
    command.args(["--validation-samples", "8"]);
    command
}

fn count_bytes(dir: &Path) -> u64 {
    read_files(dir).values().map(|bytes| bytes.len() as u64).sum()
}

/// Only the process sees the disk. Its content is copied to `full` when the disk is full, and to
/// `copied` at the end.
#[test]
fn a_capture_on_a_full_disk_fails_and_resumes_with_space() {
    let Some(data) = data_dir() else { return };
    let data = data.canonicalize().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path();
    succeed(capturing(&data, &place.join("undisturbed")));
    let expected = read_results(&place.join("undisturbed"));
    // The room includes two checkpoints, of which the end has none.
    let room = 3 * count_bytes(&place.join("undisturbed"));
    let (mut refused, mut whole_steps) = (0, 0);
    for share in [2, 10, 25, 50, 75] {
        let script = format!(
            "mkdir -p small && mount -t tmpfs -o size={} small small || exit 99
            \"$0\" \"$@\" 2> first.err; echo $? > first.code
            cp -r small/trace full 2> /dev/null
            mount -o remount,size=1g small || exit 99
            test -f small/trace/manifest.json && resume=--resume
            \"$0\" \"$@\" $resume || exit $?
            rm -f small/trace/checkpoint.safetensors
            cp -r small/trace copied",
            room * share / 100
        );
        let wanted = capturing(&data, Path::new("small/trace"));
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script, TRACER]).args(wanted.get_args()).env("OMP_NUM_THREADS", "1");
        let again = command.current_dir(place).output();
        if !place.join("first.code").exists() {
            report_skip("no disk may be mounted here (unshare, mount)");
            return;
        }
        let again = again.unwrap();
        assert!(again.status.success(), "{share} %: {}", String::from_utf8_lossy(&again.stderr));
        let text = |name: &str| std::fs::read_to_string(place.join(name)).unwrap();
        if text("first.code").trim() != "0" {
            refused += 1;
            assert_eq!(text("first.code").trim(), "2", "{share} %: {}", text("first.err"));
            let says_so = ["No space left on device", "no storage space"];
            assert!(says_so.iter().any(|said| text("first.err").contains(said)), "{share} %: {}", text("first.err"));
            whole_steps += verify_trace(&place.join("full")).map_or(0, |steps| steps.len());
        }
        verify_trace(&place.join("copied")).unwrap();
        assert!(read_results(&place.join("copied")) == expected, "{share} %: not the undisturbed capture");
        for name in ["full", "copied"] {
            let _ = std::fs::remove_dir_all(place.join(name));
        }
        std::fs::remove_file(place.join("first.code")).unwrap();
    }
    assert!(refused > 2 && whole_steps > 0, "{refused} refused, {whole_steps} steps were whole");
    println!("figures: capture on a full disk: {refused} refused with {whole_steps} captured steps whole, 0 losses");
}

#[test]
fn one_of_two_simultaneous_captures_succeeds() {
    let Some(data) = data_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    succeed(capturing(&data, &dir.path().join("undisturbed")));
    let expected = read_results(&dir.path().join("undisturbed"));
    for round in 0..3 {
        let out = dir.path().join(format!("trace-{round}"));
        let start = || capturing(&data, &out).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let pair = [start(), start()].map(|child| child.wait_with_output().unwrap());
        let codes = pair.each_ref().map(|output| output.status.code());
        assert!(codes == [Some(0), Some(2)] || codes == [Some(2), Some(0)], "{pair:?}");
        let _ = std::fs::remove_file(out.join("checkpoint.safetensors"));
        assert!(read_results(&out) == expected, "nothing is mixed up");
    }
    println!("figures: two at once: 3 refused");
}
