//! Turns panics of the Parquet decoder, which damaged files can cause, into errors.

use crate::error::{Result, TraceError};
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Once;

thread_local! {
    static DECODING: Cell<bool> = const { Cell::new(false) };
}

/// Runs a step of a decoder; a panic becomes an error and is not printed.
///
/// The previous panic hook stays in force for all other code.
pub fn decode<T>(path: &Path, step: impl FnOnce() -> T) -> Result<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !DECODING.get() {
                before(info);
            }
        }));
    });
    DECODING.set(true);
    // This is unwind safe, because the error drops everything that the step used.
    let result = panic::catch_unwind(AssertUnwindSafe(step));
    DECODING.set(false);
    result.map_err(|_| TraceError::parquet(path, "its pages contradict each other"))
}
