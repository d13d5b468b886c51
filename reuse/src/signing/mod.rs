//! Signatures: random projections of vectors, quantised to bits.

pub(crate) mod dots;
mod drawn;
pub(crate) mod kernel;
pub(crate) mod projection;
pub(crate) mod signatures;
mod strips;

pub use kernel::Kernel;
pub use projection::Projection;
pub use signatures::{compute_signature, signatures, signatures_with};
