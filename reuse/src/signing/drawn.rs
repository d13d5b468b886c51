//! A cache of projection matrices in the layout of a kernel. Drawing R takes longer than projecting a few hundred vectors by
//! it, and training needs the same few matrices at every step.

use crate::config::{Matrix, Rpq};
use crate::signing::kernel::{Kernel, Packed};
use crate::signing::projection::Projection;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most values that the cache keeps: 64 MiB. The matrices of a network rarely exceed a few MiB.
const MAX_VALUES: usize = 1 << 24;

/// Most matrices that the cache keeps. A small matrix from outside that changes at every step would otherwise fill it
/// with thousands of old ones, among which each look-up searches.
const MAX_MATRICES: usize = 4096;

/// The inputs that determine R and its layout.
#[derive(Debug, Clone, PartialEq)]
struct Key {
    kernel: Kernel,
    bits: u32,
    length: usize,
    source: Source,
}

/// Where the values of R come from.
#[derive(Debug, Clone, PartialEq)]
enum Source {
    /// The seed, and what is drawn.
    Drawn(u64, Matrix),
    /// The hash of what was given, and the rows of the tensor in it.
    Given(u64, usize),
}

/// Entries in order of their last use, the latest last.
static DRAWN: Mutex<Vec<(Key, Arc<Packed>)>> = Mutex::new(Vec::new());

/// Gets R for vectors of `length` elements, in the layout of the kernel: from the cache, or made anew.
pub(crate) fn get_packed(kernel: Kernel, rpq: &Rpq, length: usize) -> Arc<Packed> {
    let source = match &rpq.projection {
        Matrix::Given(given) => {
            Source::Given(given.content_hash(), given.find_length(rpq.granularity, length).unwrap_or(0))
        }
        drawn => Source::Drawn(rpq.seed, drawn.clone()),
    };
    let key = Key { kernel, bits: rpq.bits, length, source };
    if let Some(packed) = find_drawn(&key) {
        return packed;
    }
    // The lock is not held here, so that threads can draw different matrices at the same time. Two
    // threads may draw the same matrix, which is harmless.
    let packed = Arc::new(Packed::new(kernel, &Projection::from_rpq(rpq, length)));
    let mut drawn = lock_drawn();
    drawn.push((key, Arc::clone(&packed)));
    while drawn.len() > 1 && (drawn.len() > MAX_MATRICES || count_values(&drawn) > MAX_VALUES) {
        drawn.remove(0);
    }
    packed
}

fn count_values(drawn: &[(Key, Arc<Packed>)]) -> usize {
    drawn.iter().map(|(_, packed)| packed.size()).sum()
}

/// Finds a matrix and marks it as the latest used.
fn find_drawn(key: &Key) -> Option<Arc<Packed>> {
    let mut drawn = lock_drawn();
    let index = drawn.iter().position(|(other, _)| other == key)?;
    let entry = drawn.remove(index);
    let packed = Arc::clone(&entry.1);
    drawn.push(entry);
    Some(packed)
}

/// A poisoned lock is usable, because the list is valid after any panic.
fn lock_drawn() -> MutexGuard<'static, Vec<(Key, Arc<Packed>)>> {
    DRAWN.lock().unwrap_or_else(PoisonError::into_inner)
}
