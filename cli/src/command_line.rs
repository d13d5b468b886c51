//! Formats command lines as text that can be run again.

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use std::borrow::Cow;

/// Quotes a word for a shell.
pub fn quote(word: &str) -> String {
    // Only a word with a zero byte cannot be quoted, and arguments of programs have none.
    shlex::try_quote(word).map_or_else(|_| word.to_owned(), Cow::into_owned)
}

/// Splits a command into its words, as a shell does; `None` if a quotation does not end.
pub fn split_words(command: &str) -> Option<Vec<String>> {
    shlex::split(command)
}

/// Formats a flag and its value, quoted for a shell.
///
/// A value that starts with a hyphen follows `=`, because it would otherwise be parsed as a flag.
pub fn flag(name: &str, value: &str) -> String {
    let separator = if value.starts_with('-') { '=' } else { ' ' };
    format!("--{name}{separator}{}", quote(value))
}

/// Collects the flags given to a command, without those in `except`, quoted for a shell.
///
/// They are in the order of the command's definition, so that equal runs have equal text.
pub fn collect_given_flags(command: &Command, matches: &ArgMatches, except: &[&str]) -> Vec<String> {
    let mut words = Vec::new();
    for argument in command.get_arguments() {
        let id = argument.get_id().as_str();
        let was_given = matches.value_source(id) == Some(ValueSource::CommandLine);
        let Some(name) = argument.get_long().filter(|_| was_given && !except.contains(&id)) else { continue };
        if !argument.get_action().takes_values() {
            words.push(format!("--{name}"));
            continue;
        }
        let given = matches.get_raw(id).into_iter().flatten();
        let values: Vec<String> = given.map(|value| value.to_string_lossy().into_owned()).collect();
        match argument.get_value_delimiter() {
            Some(delimiter) => words.push(flag(name, &values.join(&delimiter.to_string()))),
            None => words.extend(values.iter().map(|value| flag(name, value))),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Arg, ArgAction};

    fn format_given(words: &[&str]) -> String {
        let argument = |name: &'static str| Arg::new(name).long(name);
        let command = Command::new("tool").args([
            argument("out"),
            argument("steps").default_value("7"),
            argument("layers").action(ArgAction::Append),
            argument("passes").value_delimiter(','),
            argument("augment").action(ArgAction::SetTrue),
        ]);
        let matches = command.clone().try_get_matches_from([&["tool"], words].concat()).unwrap();
        collect_given_flags(&command, &matches, &["out"]).join(" ")
    }

    #[test]
    fn given_flags_are_in_the_order_of_definition() {
        let expected = "--steps 7 --layers a --layers 'b.*' --passes 'x,y' --augment";
        let words = ["--augment", "--passes", "x,y", "--layers", "a", "--out", "o", "--steps=7", "--layers", "b.*"];
        assert_eq!(format_given(&words), expected);
        assert_eq!(format_given(&["--out", "o"]), "");
        assert_eq!(format_given(&["--layers=-x y"]), "--layers='-x y'");
    }
}
