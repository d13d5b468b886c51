//! What the command lines of tracer and analyzer have in common: how much is said beside the data, completions for
//! shells, and manual pages.

#![forbid(unsafe_code)]

mod messages;
mod progress;
mod shell;
mod sizes;

pub use messages::Messages;
pub use progress::Progress;
pub use shell::{Completions, Man};
pub use sizes::parse_bytes;
