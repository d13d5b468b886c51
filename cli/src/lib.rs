//! Shared parts of the command lines of tracer and analyzer: messages, progress, shell completions,
//! manual pages, sizes, and commands as text.

#![forbid(unsafe_code)]

mod command_line;
mod messages;
mod progress;
mod shell;
mod sizes;

pub use command_line::{collect_given_flags, flag, quote, split_words};
pub use messages::Messages;
pub use progress::{Progress, ProgressReader};
pub use shell::{Completions, Man};
pub use sizes::parse_bytes;
