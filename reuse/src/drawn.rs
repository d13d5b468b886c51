//! Matrices that were drawn before: drawing R takes longer than projecting a few hundred vectors by
//! it, and training asks for the same few at every step.

use crate::config::{Matrix, Rpq};
use crate::kernel::{Kernel, Packed};
use crate::projection::Projection;
use std::sync::{Arc, Mutex, PoisonError};

/// Values that are kept, 64 MiB of them: any network's matrices, for which a few MiB are many.
const KEPT: usize = 1 << 24;

/// All that R and its form depend on: kernel, seed, bits, entries, length of the vectors.
type Key = (Kernel, u64, u32, Matrix, usize);

/// The latest use last.
static DRAWN: Mutex<Vec<(Key, Arc<Packed>)>> = Mutex::new(Vec::new());

/// R for vectors of `length` elements, as the kernel reads it.
pub(crate) fn packed(kernel: Kernel, rpq: &Rpq, length: usize) -> Arc<Packed> {
    let key = (kernel, rpq.seed, rpq.bits, rpq.projection, length);
    // What a panic elsewhere could leave behind is still a list of matrices.
    let lock = || DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
    let found = {
        let mut drawn = lock();
        let at = drawn.iter().position(|(of, _)| *of == key);
        at.map(|at| {
            let entry = drawn.remove(at);
            let packed = Arc::clone(&entry.1);
            drawn.push(entry);
            packed
        })
    };
    // Not drawn under the lock: others may want another. Two may draw the same, which is the same.
    found.unwrap_or_else(|| {
        let packed = Arc::new(Packed::new(kernel, &Projection::of(rpq, length)));
        let mut drawn = lock();
        drawn.push((key, Arc::clone(&packed)));
        while drawn.len() > 1 && drawn.iter().map(|(_, packed)| packed.size()).sum::<usize>() > KEPT {
            drawn.remove(0);
        }
        packed
    })
}
