//! Values that are slow to make, handed from one task to the next.

use std::sync::{Mutex, PoisonError};

/// As many values as tasks run at the same time.
pub(crate) struct Pool<T, New> {
    free: Mutex<Vec<T>>,
    new: New,
}

impl<T, New: Fn() -> T> Pool<T, New> {
    /// An empty pool; `new` makes a value when none is free.
    pub fn new(new: New) -> Self {
        Self { free: Mutex::default(), new }
    }

    /// Lends a free value, or a new one, to `work`.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut one = free.unwrap_or_else(&self.new);
        let result = work(&mut one);
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(one);
        result
    }
}
