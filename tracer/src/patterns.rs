//! Patterns of names in flags.

use crate::error::{Result, TracerError};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Maximum number of names that an error lists.
const LISTED: usize = 10;
/// Minimum number of characters that a suggested name shares with a pattern.
const MIN_SHARED: usize = 3;

/// The patterns of a flag.
#[derive(Debug, Default)]
pub struct NamePatterns {
    flag: &'static str,
    patterns: Vec<String>,
    set: GlobSet,
}

impl NamePatterns {
    /// Compiles the patterns of a flag.
    ///
    /// # Errors
    /// If a pattern is invalid; the error names the flag.
    pub fn new(flag: &'static str, patterns: impl IntoIterator<Item = impl Into<String>>) -> Result<Self> {
        let bad = |error: globset::Error| TracerError::Flag { flag, reason: error.to_string() };
        let patterns: Vec<String> = patterns.into_iter().map(Into::into).collect();
        let mut set = GlobSetBuilder::new();
        for pattern in &patterns {
            set.add(GlobBuilder::new(pattern).build().map_err(bad)?);
        }
        Ok(Self { flag, patterns, set: set.build().map_err(bad)? })
    }

    /// Whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether one of the patterns matches.
    pub fn is_match(&self, name: &str) -> bool {
        self.set.is_match(name)
    }

    /// The place of the last pattern that matches.
    pub fn find_last(&self, name: &str) -> Option<usize> {
        self.set.matches(name).into_iter().max()
    }

    /// The first pattern that matches none of the names.
    pub fn find_unused<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Option<&str> {
        let mut is_used = vec![false; self.patterns.len()];
        for name in names {
            for place in self.set.matches(name) {
                is_used[place] = true;
            }
        }
        let (pattern, _) = self.patterns.iter().zip(is_used).find(|(_, is_used)| !is_used)?;
        Some(pattern)
    }

    /// An error of the flag.
    pub fn refuse(&self, reason: String) -> TracerError {
        TracerError::Flag { flag: self.flag, reason }
    }

    /// The error of a pattern that matches no parameter; it lists the similar names of the model.
    pub fn refuse_unused(&self, pattern: &str, names: &[String]) -> TracerError {
        let similar = list_names(&find_similar_names(pattern, names));
        self.refuse(format!("{pattern:?} matches no parameter of the model, which has {similar}"))
    }
}

/// Finds the names with the longest prefix in common with a pattern; all names if none is similar.
fn find_similar_names(pattern: &str, names: &[String]) -> Vec<String> {
    let literal: Vec<char> = pattern.chars().take_while(|c| !"*?[{".contains(*c)).collect();
    for length in (MIN_SHARED..=literal.len()).rev() {
        let beginning: String = literal[..length].iter().collect();
        let similar: Vec<String> = names.iter().filter(|name| name.starts_with(&beginning)).cloned().collect();
        if !similar.is_empty() {
            return similar;
        }
    }
    // The last layer, which decides the classes, is the most likely target.
    names.iter().rev().cloned().collect()
}

/// Joins the first names and the number of the others.
pub fn list_names(names: &[String]) -> String {
    let more = names.len().saturating_sub(LISTED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names[..names.len().min(LISTED)].join(", "))
}
