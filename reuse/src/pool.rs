//! What tasks need for a while and is slow to make, handed from one to the next.

use std::sync::{Mutex, PoisonError};

/// Room for so many values, which may be anything, in memory that others had if it is large enough: new memory is zeros
/// that threads get as they write to it.
pub(crate) fn room<T: Copy + Default>(mut memory: Vec<T>, length: usize) -> Vec<T> {
    if memory.capacity() < length {
        return vec![T::default(); length];
    }
    memory.resize(length, T::default());
    memory
}

/// As many of something as tasks have at once.
pub(crate) struct Pool<T, New> {
    free: Mutex<Vec<T>>,
    new: New,
}

impl<T, New: Fn() -> T> Pool<T, New> {
    /// Of none yet.
    pub fn new(new: New) -> Self {
        Self { free: Mutex::default(), new }
    }

    /// Does something with one that is free, or a new one.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut one = free.unwrap_or_else(&self.new);
        let result = work(&mut one);
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(one);
        result
    }
}
