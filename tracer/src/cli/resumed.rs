//! What a run that goes on has to share with the one that was broken off, beside its flags.

use crate::error::TracerError;
use mercury_trace::TraceError;
use mercury_trace::manifest::{Dataset, Manifest};
use std::path::Path;

/// Refuses to go on with a run on other data, or by another version.
pub fn check_same_data(out: &Path, ours: &Manifest, found: &Manifest) -> Result<(), TracerError> {
    let differs = if without_left_out(&ours.dataset) != without_left_out(&found.dataset) {
        "the data set is not what it was (files added, removed, or changed)"
    } else if ours.versions != found.versions {
        "another version of mercury-tracer or libtorch began the run"
    } else if (&ours.model, &ours.sampling) != (&found.model, &found.sampling) {
        "the model is not what it was"
    } else {
        return Ok(());
    };
    let reason = format!("{differs}: going on would give another result; give another --out");
    Err(TraceError::Resume { path: out.to_owned(), reason }.into())
}

/// Files that are not used may come and go: the digest tells whether the data are the same.
fn without_left_out(dataset: &Dataset) -> Dataset {
    let mut dataset = dataset.clone();
    dataset.description.remove("left out");
    dataset
}
