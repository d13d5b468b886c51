//! The command that measures what a replay cannot: how the errors of all layers add up.

use crate::config::{Config, PRESETS};
use crate::error::Result;
use mercury_cli::{flag, quote, split_words};

/// Flags of `capture`, each with a value, that a probe does not need.
const CAPTURE_FLAGS: [&str; 5] = ["--capture", "--samples", "--channels", "--filters", "--label"];

/// A `mercury-tracer train --probe` of the training that `capture`, the command recorded in a trace, ran. `None` if the
/// trace was written otherwise.
pub fn probe_command(capture: Option<&str>, config: &Config) -> Option<String> {
    let words = split_words(capture?)?;
    let [program, command, flags @ ..] = words.as_slice() else { return None };
    if program != "mercury-tracer" || command != "capture" {
        return None;
    }
    let mut text = vec!["mercury-tracer train".to_owned()];
    let mut measure = None;
    let mut flags = flags.iter();
    while let Some(word) = flags.next() {
        if word == "--capture" {
            measure = flags.next();
        } else if CAPTURE_FLAGS.contains(&word.as_str()) {
            flags.next();
        } else if word == "--out" {
            flags.next();
            text.push("--out PROBE".to_owned());
        } else {
            text.push(quote(word));
        }
    }
    text.extend(measure.map(|measure| flag("measure", measure)));
    text.push(format!("--probe {}", name_configuration(config).unwrap_or("CONFIG.toml")));
    Some(text.join(" "))
}

/// The preset that is this configuration.
fn name_configuration(config: &Config) -> Option<&'static str> {
    let is_it = |name: &str| -> Result<bool> { Ok(Config::resolve(name, Config::preset(name)?, &[])? == *config) };
    PRESETS.iter().map(|(name, _)| *name).find(|name| is_it(name).unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_trains_as_the_capture_did() {
        let capture = "mercury-tracer capture --out TRACE --model vgg13 --dataset cifar10 --fresh 'a.*' --capture every=4 \
                       --samples 4 --lr 0.1";
        let expected = "mercury-tracer train --out PROBE --model vgg13 --dataset cifar10 --fresh 'a.*' --lr 0.1 --measure \
                        every=4 --probe mercury";
        assert_eq!(probe_command(Some(capture), &Config::default()).as_deref(), Some(expected));
        let mut longer = Config::default();
        longer.rpq.bits = 40;
        assert!(probe_command(Some(capture), &longer).unwrap().ends_with("--probe CONFIG.toml"));
        assert_eq!(probe_command(Some("python write_trace.py"), &longer), None);
        assert_eq!(probe_command(None, &longer), None);
    }
}
