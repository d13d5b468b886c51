//! Damaged Parquet can make its decoder panic; to a reader of traces that is one more unreadable file.

use crate::error::{Result, TraceError};
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Once;

thread_local! {
    static DECODING: Cell<bool> = const { Cell::new(false) };
}

/// Runs a step of a decoder; a panic in it becomes an error, and is not reported on stderr.
///
/// The panic hook that was set before stays in force for all other code.
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
    // Unwind safe: whatever the step had in hand is given up with the error.
    let result = panic::catch_unwind(AssertUnwindSafe(step));
    DECODING.set(false);
    result.map_err(|_| TraceError::parquet(path, "its pages contradict each other"))
}
