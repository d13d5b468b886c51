//! Common features of all commands: help, completions, manual pages, configurations, suggestions,
//! --quiet.

mod common;

use common::place::{Place, files};
use std::fs;

const COMMANDS: [&str; 15] = [
    "inspect",
    "replay",
    "sweep",
    "compare",
    "report",
    "vectors",
    "projection",
    "cycles",
    "config show",
    "config check",
    "config presets",
    "config reference",
    "completions",
    "man",
    "",
];

#[test]
fn every_command_s_help_has_an_example_and_no_colours_in_a_file() {
    let place = Place::new();
    for command in COMMANDS {
        let help = place.stdout(&format!("{command} --help"));
        assert!(help.contains("Example"), "{command}: {help}");
        assert!(help.contains("--quiet") && !help.contains('\u{1b}'), "{command}: {help}");
    }
    insta::assert_snapshot!("help", place.stdout("--help"));
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let place = Place::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = place.stdout(&format!("completions {shell}"));
        for word in ["replay", "report", "mcache.scope_linear", "presets"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    place.stdout("man --out man1");
    let pages: Vec<String> = files(&place.path("man1")).into_iter().map(|(name, _)| name).collect();
    for command in COMMANDS {
        let name = format!("mercury-analyzer {command}").trim().replace(' ', "-");
        assert!(pages.contains(&format!("{name}.1")), "{name}: {pages:?}");
    }
    let page = fs::read_to_string(place.path("man1/mercury-analyzer.1")).unwrap();
    assert!(page.contains("Exit codes"), "{page}");
    fs::write(place.path("file"), "").unwrap();
    insta::assert_snapshot!("man_in_a_file", place.error("man --out file"));
}

#[test]
fn the_reference_of_keys_is_current() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let remedy = "run `mercury-analyzer config reference > docs/configuration.md`";
    assert!(fs::read_to_string(page).unwrap() == Place::new().stdout("config reference"), "{page}: {remedy}");
}

#[test]
fn a_configuration_shows_the_source_of_each_value() {
    let place = Place::new();
    fs::write(place.path("my.toml"), "[rpq]\nbits = 32\n[stop]\nwindow = 0\n").unwrap();
    insta::assert_snapshot!("config_show", place.stdout("config show --config my.toml --mcache.ways 8"));
    insta::assert_snapshot!("config_show_csv", place.stdout("config show --preset patch-os --format csv"));
    insta::assert_snapshot!("config_check", place.stdout("config check my.toml"));
    insta::assert_snapshot!("config_presets", place.stdout("config presets"));
    // The printed text is a valid configuration file.
    fs::write(place.path("shown.toml"), place.stdout("config show --preset trec --rpq.seed 7")).unwrap();
    let shown = place.stdout("config show --config shown.toml --format json").replace("shown.toml", "");
    let direct = place.stdout("config show --preset trec --rpq.seed 7 --format json");
    let values = |json: &str| -> Vec<String> {
        let rows: Vec<serde_json::Value> = serde_json::from_str(json).unwrap();
        rows.iter().map(|row| format!("{}={}", row["key"], row["value"])).collect()
    };
    assert_eq!(values(&shown), values(&direct));
}

#[test]
fn misspelt_names_get_a_suggestion() {
    let place = Place::new();
    fs::write(place.path("wrong.toml"), "[rpq]\nbitz = 32\n").unwrap();
    for (name, arguments) in [
        ("suggest_command", "repaly trace --out results"),
        ("suggest_flag", "replay trace --out results --mcache.wasy 4"),
        ("suggest_layer", "vectors trace --layer feature.3 --out v.parquet"),
        ("suggest_layers", "replay trace --out results --layers clasifier.0"),
        ("suggest_key", "sweep trace --out sweep --set mcache.way=1,2"),
        ("suggest_preset", "replay trace --out results --preset mercuri"),
        ("suggest_value", "replay trace --out results --mcache.scope chanel"),
        ("suggest_key_in_a_file", "config check wrong.toml"),
        ("no_such_file", "config check nowhere.toml"),
    ] {
        insta::assert_snapshot!(name, place.error(arguments));
    }
}

#[test]
fn quiet_prints_only_data_and_errors() {
    let place = Place::new();
    place.stdout("replay trace --out a --rpq.bits 4 --quiet");
    place.stdout("replay trace --out b --rpq.bits 9 --quiet");
    let stderr = |arguments: &str| String::from_utf8(place.run(arguments).stderr).unwrap();
    assert!(stderr("compare a b").contains("rpq.bits"));
    assert_eq!(stderr("compare a b --quiet"), "");
    assert_eq!(place.stdout("compare a b"), place.stdout("compare a b -q"));
    assert_eq!(stderr("report a --out page.html -q"), "");
    assert!(stderr("report a --out page.html").starts_with("report: page.html"));
    assert!(place.error("inspect nowhere -q").starts_with("error: "));
    assert!(stderr("replay trace --out c -vv").contains("replayed"));
    assert_eq!(stderr("replay trace --out d"), "");
}
