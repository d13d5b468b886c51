//! Files in the user's folders that are left out, counted by reason.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Maximum number of suffixes that are listed.
const LISTED: usize = 5;

/// Reasons to leave a file out, in the order of listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LeftOutReason {
    /// Its suffix, given in lower case, is not that of a JPEG or PNG file.
    Name(String),
    /// The name of the file or folder begins with a dot.
    Hidden,
    /// It cannot be read.
    Unreadable,
    /// It is empty.
    Empty,
    /// Its content is neither JPEG nor PNG.
    OtherFormat,
    /// It is a truncated JPEG file.
    Truncated,
    /// It cannot be decoded.
    Undecodable,
    /// One side is many times longer than the other.
    Narrow,
}

impl LeftOutReason {
    fn text(&self) -> &'static str {
        match self {
            Self::Name(_) => "not named .jpg, .jpeg or .png",
            Self::Hidden => "hidden",
            Self::Unreadable => "unreadable",
            Self::Empty => "empty",
            Self::OtherFormat => "neither JPEG nor PNG by content",
            Self::Truncated => "truncated",
            Self::Undecodable => "damaged",
            Self::Narrow => "too narrow",
        }
    }
}

/// The files that are left out, each once, even if a folder serves both training and validation.
#[derive(Debug, Default, PartialEq)]
pub(super) struct LeftOut(BTreeMap<PathBuf, LeftOutReason>);

impl LeftOut {
    /// Whether a file is left out.
    pub(super) fn contains(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    /// Adds a file.
    pub(super) fn add(&mut self, path: PathBuf, reason: LeftOutReason) {
        self.0.insert(path, reason);
    }

    /// Adds the files of another list.
    pub(super) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Whether no file is left out.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for LeftOut {
    /// For example, `3 files: 2 not named .jpg, .jpeg or .png (1 .bmp, 1 .webp), 1 empty`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counts = BTreeMap::new();
        let mut suffixes = BTreeMap::new();
        for reason in self.0.values() {
            if let LeftOutReason::Name(suffix) = reason {
                *suffixes.entry(suffix.as_str()).or_insert(0) += 1;
                *counts.entry(LeftOutReason::Name(String::new())).or_insert(0) += 1;
            } else {
                *counts.entry(reason.clone()).or_insert(0) += 1;
            }
        }
        write!(f, "{} {}", self.0.len(), if self.0.len() == 1 { "file" } else { "files" })?;
        for (index, (reason, count)) in counts.iter().enumerate() {
            match (counts.len(), index) {
                (1, _) => write!(f, " {}", reason.text())?,
                (_, 0) => write!(f, ": {count} {}", reason.text())?,
                _ => write!(f, ", {count} {}", reason.text())?,
            }
            if matches!(reason, LeftOutReason::Name(_)) {
                write!(f, " ({})", list_suffixes(&suffixes))?;
            }
        }
        Ok(())
    }
}

fn list_suffixes(suffixes: &BTreeMap<&str, usize>) -> String {
    let shown = suffixes.iter().take(LISTED).map(|(suffix, count)| match *suffix {
        "" => format!("{count} without suffix"),
        suffix => format!("{count} .{suffix}"),
    });
    let mut shown: Vec<String> = shown.collect();
    let others: usize = suffixes.values().skip(LISTED).sum();
    if others > 0 {
        shown.push(format!("{others} others"));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_once_and_by_reason() {
        let mut left_out = LeftOut::default();
        assert_eq!(left_out.to_string(), "0 files");
        left_out.add("a".into(), LeftOutReason::Empty);
        assert_eq!(left_out.to_string(), "1 file empty");
        let mut more = LeftOut::default();
        more.add("a".into(), LeftOutReason::Empty);
        more.add("b".into(), LeftOutReason::Hidden);
        for suffix in ["f", "e", "d", "c", "b", "a", "g"] {
            more.add(format!("x.{suffix}").into(), LeftOutReason::Name(suffix.to_owned()));
        }
        more.add("y.a".into(), LeftOutReason::Name("a".to_owned()));
        left_out.extend(more);
        let expected =
            "10 files: 8 not named .jpg, .jpeg or .png (2 .a, 1 .b, 1 .c, 1 .d, 1 .e, 2 others), 1 hidden, 1 empty";
        assert_eq!(left_out.to_string(), expected);
    }
}
