//! What the command lines of tracer and analyzer have in common: how much is said beside the data, completions for
//! shells, manual pages, and commands written down.

#![forbid(unsafe_code)]

mod command_line;
mod messages;
mod progress;
mod shell;
mod sizes;

pub use command_line::{collect_given_flags, flag, quote};
pub use messages::Messages;
pub use progress::Progress;
pub use shell::{Completions, Man};
pub use sizes::parse_bytes;
