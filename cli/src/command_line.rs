//! A command line written down, so that it can be run again.

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use std::borrow::Cow;

/// A word as a shell takes it.
pub fn quote(word: &str) -> String {
    // The only word that cannot be quoted holds a zero byte, which no argument of a program does.
    shlex::try_quote(word).map_or_else(|_| word.to_owned(), Cow::into_owned)
}

/// A flag and its value, quoted for a shell. A value that begins with a hyphen would be taken for a flag by itself.
pub fn flag(name: &str, value: &str) -> String {
    let separator = if value.starts_with('-') { '=' } else { ' ' };
    format!("--{name}{separator}{}", quote(value))
}

/// The flags that were given to a command, without those in `except`, quoted for a shell.
///
/// They come in the order in which the command defines them, so that equal runs are written down equally.
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

    fn written_down(words: &[&str]) -> String {
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
    fn what_was_given_is_written_down_in_one_order() {
        let expected = "--steps 7 --layers a --layers 'b.*' --passes 'x,y' --augment";
        let words = ["--augment", "--passes", "x,y", "--layers", "a", "--out", "o", "--steps=7", "--layers", "b.*"];
        assert_eq!(written_down(&words), expected);
        assert_eq!(written_down(&["--out", "o"]), "");
        assert_eq!(written_down(&["--layers=-x y"]), "--layers='-x y'");
    }
}
