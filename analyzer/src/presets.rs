//! The preset that a configuration is nearest to, and the flags between two configurations.

use crate::config::{Config, PRESETS};
use mercury_reuse::config::Rpq;

/// The preset that a configuration differs least from, and the flags that lead from it to the configuration.
pub fn find_nearest_preset(config: &Config) -> (&'static str, Vec<String>) {
    let config = with_explicit_unit(config);
    let compare = |name: &'static str| {
        let preset = Config::preset(name).and_then(|table| Config::resolve(name, table, &[]));
        let preset = preset.expect("presets are valid, as a test checks");
        (name, list_flags(&with_explicit_unit(&preset), &config))
    };
    let nearest = PRESETS.iter().map(|(name, _)| compare(name)).min_by_key(|(_, flags)| flags.len());
    nearest.expect("there are presets")
}

/// The same with the multiply-accumulates of a unit for signatures written out.
fn with_explicit_unit(config: &Config) -> Config {
    let rpq = Rpq { macs_per_cycle: config.unit_macs(), ..config.rpq.clone() };
    Config { rpq, ..config.clone() }
}

/// The keys in which two configurations differ, as flags with the second one's values.
pub fn list_flags(before: &Config, after: &Config) -> Vec<String> {
    let to_table = |config: &Config| toml::Table::try_from(config).expect("a configuration is a table");
    let (before, after) = (to_table(before), to_table(after));
    let mut flags = Vec::new();
    for (section, keys) in &after {
        for (key, value) in keys.as_table().into_iter().flatten() {
            if before.get(section).and_then(|keys| keys.get(key)) != Some(value) {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                flags.push(mercury_cli::flag(&format!("{section}.{key}"), &text));
            }
        }
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preset_is_nearest_to_itself() {
        for (name, _) in PRESETS {
            let config = Config::resolve(name, Config::preset(name).unwrap(), &[]).unwrap();
            assert_eq!(find_nearest_preset(&config), (*name, Vec::new()));
        }
        let mut longer = Config::default();
        longer.rpq.bits = 40;
        assert_eq!(find_nearest_preset(&longer), ("mercury", vec!["--rpq.bits 40".to_owned()]));
    }
}
