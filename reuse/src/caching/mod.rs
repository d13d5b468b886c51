//! MCACHE, and the outcomes of the vectors that are looked up in it.

pub(crate) mod counts;
pub(crate) mod mcache;
pub(crate) mod outcomes;
pub(crate) mod pool;

pub use counts::Counts;
pub use mcache::{Isa, Outcome};
pub use outcomes::{FirstArrivals, Outcomes, Ranks};
