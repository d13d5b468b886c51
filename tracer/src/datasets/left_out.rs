//! Files of the user's folders that are not used, counted by reason.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Suffixes that are listed one by one.
const LISTED: usize = 5;

/// Why a file is not used. In the order in which they are listed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// Its name does not say that it is a JPEG or PNG file; this is its suffix, in lower case.
    Name(String),
    /// Its name, or that of the folder that is left out, begins with a dot.
    Hidden,
    /// It could not be read.
    Unreadable,
    /// It has no bytes.
    Empty,
    /// It holds something else than its name says.
    OtherFormat,
    /// It is a JPEG file without its end.
    BrokenOff,
    /// The decoder refuses it.
    Undecodable,
    /// One side is many times as long as the other.
    Narrow,
}

impl Reason {
    fn text(&self) -> &'static str {
        match self {
            Self::Name(_) => "not named .jpg, .jpeg or .png",
            Self::Hidden => "hidden",
            Self::Unreadable => "unreadable",
            Self::Empty => "empty",
            Self::OtherFormat => "neither JPEG nor PNG by content",
            Self::BrokenOff => "broken off",
            Self::Undecodable => "damaged",
            Self::Narrow => "too narrow",
        }
    }
}

/// The files, each once, so that a folder that is both trained and validated on counts once.
#[derive(Debug, Default, PartialEq)]
pub(super) struct LeftOut(BTreeMap<PathBuf, Reason>);

impl LeftOut {
    /// Whether a file is among them.
    pub(super) fn contains(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    /// Adds a file.
    pub(super) fn add(&mut self, path: PathBuf, reason: Reason) {
        self.0.insert(path, reason);
    }

    /// Adds those of another.
    pub(super) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for LeftOut {
    /// Such as `3 files: 2 not named .jpg, .jpeg or .png (1 .bmp, 1 .webp), 1 empty`, or `2 files hidden`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut counts, mut suffixes) = (BTreeMap::new(), BTreeMap::new());
        for reason in self.0.values() {
            if let Reason::Name(suffix) = reason {
                *suffixes.entry(suffix.as_str()).or_insert(0) += 1;
                *counts.entry(Reason::Name(String::new())).or_insert(0) += 1;
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
            if matches!(reason, Reason::Name(_)) {
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
        left_out.add("a".into(), Reason::Empty);
        assert_eq!(left_out.to_string(), "1 file empty");
        let mut more = LeftOut::default();
        more.add("a".into(), Reason::Empty);
        more.add("b".into(), Reason::Hidden);
        for suffix in ["f", "e", "d", "c", "b", "a", "g"] {
            more.add(format!("x.{suffix}").into(), Reason::Name(suffix.to_owned()));
        }
        more.add("y.a".into(), Reason::Name("a".to_owned()));
        left_out.extend(more);
        let expected =
            "10 files: 8 not named .jpg, .jpeg or .png (2 .a, 1 .b, 1 .c, 1 .d, 1 .e, 2 others), 1 hidden, 1 empty";
        assert_eq!(left_out.to_string(), expected);
    }
}
