//! Suggestions for mistyped names.

/// Least similarity of a suggestion, from 0 to 1.
const MIN_SIMILARITY: f64 = 0.8;

/// Finds the known name that is most similar to `name`; `None` if no name is similar.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let candidates = known.into_iter().map(|candidate| (strsim::jaro_winkler(name, candidate), candidate));
    let similar = candidates.filter(|(similarity, _)| *similarity >= MIN_SIMILARITY);
    similar.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, candidate)| candidate)
}

/// The end of a message about an unknown name: a suggestion, or nothing.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |known| format!("; did you mean {known}?"))
}

/// Adds a suggestion to a message of serde about an unknown key or value, which lists the known
/// ones in backticks. Other messages are returned unchanged.
pub fn in_message(message: &str) -> String {
    let named: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match named.as_slice() {
        [unknown, known @ ..] if message.contains("unknown ") => {
            format!("{message}{}", did_you_mean(unknown, known.iter().copied()))
        }
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_is_recognised_and_another_word_is_not() {
        let layers = ["features.0", "features.3", "classifier.0"];
        assert_eq!(nearest("feature.3", layers), Some("features.3"));
        assert_eq!(nearest("clasifier.0", layers), Some("classifier.0"));
        assert_eq!(nearest("encoder", layers), None);
        assert_eq!(did_you_mean("mcahce.ways", ["mcache.ways", "rpq.bits"]), "; did you mean mcache.ways?");
        assert_eq!(did_you_mean("x", ["mcache.ways"]), "");
    }

    #[test]
    fn messages_of_serde_name_the_known_fields() {
        let message = "unknown field `bitz`, expected one of `bits`, `seed`";
        assert_eq!(in_message(message), format!("{message}; did you mean bits?"));
        assert_eq!(in_message("invalid type: string `a`"), "invalid type: string `a`");
    }
}
