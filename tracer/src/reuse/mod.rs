//! Training and evaluating with reuse in the loop: each convolution, linear layer and attention product is
//! computed as MERCURY's hardware would, in all three passes.
//!
//! HITs are decided by the `reuse` crate, the very code by which a replay decides them.

mod exact;
mod in_loop;
mod matrix;
pub mod node;
pub mod passes;
pub mod settings;
mod tap;

pub use exact::deviation;
pub use in_loop::{InLoop, Outcome, compare};
pub use settings::{Named, Off, Override};
pub use tap::{Measured, ReuseTap, Session};
