//! Checks that a resumed run continues the interrupted one.

use crate::error::TracerError;
use mercury_trace::manifest::{Dataset, Manifest};
use mercury_trace::{Trace, TraceError};
use std::collections::BTreeMap;
use std::path::Path;

/// The one setting that is not a flag: rounding depends on how threads divide sums.
pub const THREADS: &str = "threads";

/// Refuses to resume a complete run, or a run with other flags.
///
/// `settings` and `label` are those of the resumed run.
pub fn check_same_flags(
    out: &Path,
    settings: &BTreeMap<String, String>,
    label: Option<&String>,
) -> Result<(), TracerError> {
    let trace = Trace::open(out)?;
    let manifest = trace.manifest();
    if manifest.complete {
        let reason = "the run is complete, there is nothing to resume; choose another folder";
        return Err(refuse(out, reason.to_owned()));
    }
    let found = with_label(&manifest.training.settings, manifest.label.as_ref());
    let ours = with_label(settings, label);
    let value = |settings: &BTreeMap<String, String>, name: &str| {
        settings.get(name).map_or("not given", String::as_str).to_owned()
    };
    for name in found.keys().chain(ours.keys()).filter(|name| *name != THREADS) {
        if found.get(name) != ours.get(name) {
            return Err(refuse(
                out,
                format!(
                    "--{}: is {}, but the run to resume has {}; give the same flags, or another --out",
                    name.replace('_', "-"),
                    value(&ours, name),
                    value(&found, name)
                ),
            ));
        }
    }
    if found.get(THREADS) != ours.get(THREADS) {
        tracing::warn!("the run to resume used another number of threads: sums may round differently");
    }
    Ok(())
}

/// Adds the label to the settings, under the name of its flag.
fn with_label(settings: &BTreeMap<String, String>, label: Option<&String>) -> BTreeMap<String, String> {
    let mut settings = settings.clone();
    settings.extend(label.map(|label| ("label".to_owned(), label.clone())));
    settings
}

/// Refuses to resume a run on other data, or with another version of the program.
pub fn check_same_data(out: &Path, ours: &Manifest, found: &Manifest) -> Result<(), TracerError> {
    let differs = if without_left_out(&ours.dataset) != without_left_out(&found.dataset) {
        "the data set has changed (files were added, removed or edited)"
    } else if ours.versions != found.versions {
        "the run was started with another version of mercury-tracer or libtorch"
    } else if (&ours.model, &ours.sampling) != (&found.model, &found.sampling) {
        "the model has changed"
    } else {
        return Ok(());
    };
    Err(refuse(out, format!("{differs}, so resuming would give another result; give another --out")))
}

/// Files that are left out may change: the digest tells whether the data are the same.
fn without_left_out(dataset: &Dataset) -> Dataset {
    let mut dataset = dataset.clone();
    dataset.description.remove("left out");
    dataset
}

fn refuse(out: &Path, reason: String) -> TracerError {
    TraceError::Resume { path: out.to_owned(), reason }.into()
}
