//! The name that was meant by a mistyped one.

/// How alike names have to be, from 0 to 1.
const LEAST: f64 = 0.8;

/// The known name that is most like `name`, if any is like it.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |candidate: &'a str| (strsim::jaro_winkler(name, candidate), candidate);
    let alike = known.into_iter().map(likeness).filter(|(likeness, _)| *likeness >= LEAST);
    alike.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, candidate)| candidate)
}

/// The end of a message about an unknown name: the one that may have been meant, or nothing.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |known| format!("; did you mean {known}?"))
}

/// A message of serde about an unknown key or value, which lists those that there are in backticks, with
/// the one that may have been meant.
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
    fn a_slip_is_recognised_and_another_word_is_not() {
        let layers = ["features.0", "features.3", "classifier.0"];
        assert_eq!(nearest("feature.3", layers), Some("features.3"));
        assert_eq!(nearest("clasifier.0", layers), Some("classifier.0"));
        assert_eq!(nearest("encoder", layers), None);
        assert_eq!(did_you_mean("mcahce.ways", ["mcache.ways", "rpq.bits"]), "; did you mean mcache.ways?");
        assert_eq!(did_you_mean("x", ["mcache.ways"]), "");
    }

    #[test]
    fn serde_s_messages_name_what_there_is() {
        let message = "unknown field `bitz`, expected one of `bits`, `seed`";
        assert_eq!(in_message(message), format!("{message}; did you mean bits?"));
        assert_eq!(in_message("invalid type: string `a`"), "invalid type: string `a`");
    }
}
