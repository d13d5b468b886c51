//! How vectors are cut from a layer's operand.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// How vectors are cut from a layer's operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Granularity {
    /// The k x k windows of consecutive channels of a group; of a row of a matrix product, the row.
    ChannelPatch(Channels),
    /// The window of all channels (of a group): a row of im2col.
    Patch,
    /// This many consecutive elements of such a row; the last of a row may be shorter.
    SubVector(u32),
}

/// Elements that a vector of automatically chosen channels has at least: those of a 3 x 3 patch of one channel.
const AUTO_ELEMENTS: usize = 9;

/// Words of an operand that a processing element holds, if nothing else is configured: Eyeriss's ifmap scratchpad.
const PE_WORDS: u32 = 12;

/// Channels of a vector; the last vector of a group has fewer if they do not divide the group's channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channels {
    /// This many; at least 1.
    Count(u32),
    /// In each product the fewest that give a vector 9 elements, or as many as a processing element holds.
    Auto {
        /// Words of an operand that a processing element holds; a channel takes as many as its kernel has columns.
        pe_words: u32,
    },
}

impl Channels {
    /// Channels of a vector that `kernel` (rows and columns) cuts from a group of so many channels.
    pub fn resolve(self, kernel: [u32; 2], group: usize) -> usize {
        let channels = match self {
            Channels::Count(count) => count as usize,
            Channels::Auto { pe_words } => {
                let held = (pe_words / kernel[1].max(1)) as usize;
                AUTO_ELEMENTS.div_ceil(kernel[0] as usize * kernel[1] as usize).min(held)
            }
        };
        channels.clamp(1, group.max(1))
    }
}

impl Granularity {
    /// Patches of one channel.
    pub const CHANNEL_PATCH: Self = Granularity::ChannelPatch(Channels::Count(1));

    /// Sets what a processing element holds, which bounds the channels that are chosen automatically.
    #[must_use]
    pub fn with_pe_words(self, pe_words: u32) -> Self {
        match self {
            Granularity::ChannelPatch(Channels::Auto { .. }) => Granularity::ChannelPatch(Channels::Auto { pe_words }),
            other => other,
        }
    }
}

impl fmt::Display for Granularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Granularity::ChannelPatch(Channels::Count(1)) => f.write_str("channel-patch"),
            Granularity::ChannelPatch(Channels::Count(channels)) => write!(f, "channel-patch({channels})"),
            Granularity::ChannelPatch(Channels::Auto { .. }) => f.write_str("channel-patch(auto)"),
            Granularity::Patch => f.write_str("patch"),
            Granularity::SubVector(length) => write!(f, "sub-vector({length})"),
        }
    }
}

impl FromStr for Granularity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let argument = |name: &str| text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
        let count = |name: &str| argument(name)?.parse().ok().filter(|&count: &u32| count > 0);
        if text == "channel-patch" {
            Ok(Granularity::CHANNEL_PATCH)
        } else if text == "patch" {
            Ok(Granularity::Patch)
        } else if argument("channel-patch") == Some("auto") {
            Ok(Granularity::ChannelPatch(Channels::Auto { pe_words: PE_WORDS }))
        } else if let Some(channels) = count("channel-patch") {
            Ok(Granularity::ChannelPatch(Channels::Count(channels)))
        } else if let Some(length) = count("sub-vector") {
            Ok(Granularity::SubVector(length))
        } else {
            Err(format!(
                "{text:?} is not one of channel-patch, channel-patch(q), channel-patch(auto), patch, sub-vector(L), with \
                 q and L of at least 1"
            ))
        }
    }
}

serde_as_text!(Granularity);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_as_they_print() {
        for name in ["channel-patch", "channel-patch(4)", "channel-patch(auto)", "patch", "sub-vector(16)"] {
            let granularity: Granularity = name.parse().unwrap();
            assert_eq!(granularity.to_string(), name);
        }
        assert_eq!("channel-patch(1)".parse(), Ok(Granularity::CHANNEL_PATCH));
        for wrong in ["", "channel-patch()", "channel-patch(0)", "channel-patch(1.5)", "channel-patch(Auto)"] {
            assert!(wrong.parse::<Granularity>().is_err(), "{wrong}");
        }
        for wrong in ["", "sub-vector", "sub-vector(0)", "sub-vector(-1)", "sub-vector(4", "Patch"] {
            assert!(wrong.parse::<Granularity>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn automatic_channels_give_nine_elements_if_there_is_room() {
        let resolve = |kernel, group| Channels::Auto { pe_words: 12 }.resolve(kernel, group);
        assert_eq!(resolve([1, 1], 64), 9);
        assert_eq!(resolve([1, 1], 4), 4);
        assert_eq!(resolve([3, 3], 64), 1);
        assert_eq!(resolve([2, 2], 64), 3);
        assert_eq!(resolve([1, 2], 64), 5);
        // A row of the kernel takes 7 of 12 words.
        assert_eq!(resolve([1, 7], 64), 1);
        assert_eq!(resolve([7, 1], 64), 2);
        assert_eq!(resolve([11, 11], 3), 1);
        assert_eq!(Channels::Count(4).resolve([3, 3], 64), 4);
        assert_eq!(Channels::Count(4).resolve([3, 3], 1), 1);
        let narrow: Granularity = "channel-patch(auto)".parse().unwrap();
        let Granularity::ChannelPatch(channels) = narrow.with_pe_words(4) else { panic!("of channels") };
        assert_eq!(channels.resolve([1, 1], 64), 4);
    }
}
