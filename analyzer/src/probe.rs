//! The command that measures what a replay cannot: how the errors of all layers add up.

use mercury_cli::{flag, quote, split_words};

/// Flags of `capture`, each with a value, that a probe does not need.
const CAPTURE_FLAGS: [&str; 11] = [
    "--out",
    "--label",
    "--capture",
    "--measure",
    "--samples",
    "--channels",
    "--filters",
    "--layers",
    "--passes",
    "--dtype",
    "--max-bytes",
];

/// Formats a `mercury-tracer train --probe` of the training that `capture`, the command recorded in a trace, ran. The
/// probe's configuration is a preset with these flags; if there are some, a command before it writes them to a file. It
/// measures the steps that were captured.
pub fn format_probe(capture: Option<&str>, preset: &str, flags: &[String], steps: &[u64]) -> String {
    let (mut text, mut configuration) = (String::new(), preset);
    if !flags.is_empty() {
        configuration = "probe.toml";
        text += &format!("mercury-analyzer config show --preset {preset} {} > {configuration}\n", flags.join(" "));
    }
    let numbers: Vec<String> = steps.iter().map(u64::to_string).collect();
    let mut measure = format!("steps={}", numbers.join(","));
    text += "mercury-tracer train --out PROBE";
    match capture.and_then(read_training) {
        Some((training, when)) => {
            text += &training;
            measure = when.unwrap_or(measure);
        }
        None => text += " --model MODEL --dataset DATASET",
    }
    text + &format!(" {} --probe {configuration}", flag("measure", &measure))
}

/// The flags of the training, and when it captured. `None` if another program wrote the trace.
fn read_training(capture: &str) -> Option<(String, Option<String>)> {
    let words = split_words(capture)?;
    let [program, _, flags @ ..] = words.as_slice() else { return None };
    if program != "mercury-tracer" {
        return None;
    }
    let (mut training, mut when) = (String::new(), None);
    let mut flags = flags.iter();
    while let Some(word) = flags.next() {
        if CAPTURE_FLAGS.contains(&word.as_str()) {
            let value = flags.next();
            if word == "--capture" {
                when = value.cloned();
            }
        } else {
            training += &format!(" {}", quote(word));
        }
    }
    Some((training, when))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_trains_as_the_capture_did() {
        let capture = "mercury-tracer capture --out TRACE --model vgg13 --dataset cifar10 --fresh 'a.*' --capture every=4 \
                       --samples 4 --lr 0.1";
        let training = "mercury-tracer train --out PROBE --model vgg13 --dataset cifar10 --fresh 'a.*' --lr 0.1 --measure \
                        'every=4' --probe";
        assert_eq!(format_probe(Some(capture), "mercury", &[], &[0, 4]), format!("{training} mercury"));
        let flags = ["--rpq.bits 40".to_owned()];
        let shown = "mercury-analyzer config show --preset mercury --rpq.bits 40 > probe.toml\n";
        assert_eq!(format_probe(Some(capture), "mercury", &flags, &[0]), format!("{shown}{training} probe.toml"));
        let other =
            "mercury-tracer train --out PROBE --model MODEL --dataset DATASET --measure 'steps=0,4' --probe mercury";
        assert_eq!(format_probe(Some("python write_trace.py"), "mercury", &[], &[0, 4]), other);
        assert_eq!(format_probe(None, "mercury", &[], &[0, 4]), other);
    }
}
