//! The configurations of a sweep: all combinations of the values of the swept keys.

use super::seeds::{self, SEED};
use crate::config::Config;
use crate::error::{AnalyzerError, Result};
use crate::suggest::did_you_mean;
use std::collections::HashMap;
use toml::Table;

/// Maximum number of configurations in a sweep.
pub const MAX_CONFIGURATIONS: usize = 100_000;

/// A key and the values that it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axis {
    /// The key, such as `rpq.bits`.
    pub key: &'static str,
    /// Its values, as in a configuration file (text without quotes).
    pub values: Vec<String>,
    /// For each value, whether it comes from a range. Values of a range may be invalid in every
    /// combination.
    pub ranged: Vec<bool>,
}

impl Axis {
    /// Parses `key=values`: values and ranges separated by commas, such as
    /// `rpq.bits=4,8..=32:8,64`. A range includes both ends; its step follows the colon and is 1 by
    /// default.
    ///
    /// # Errors
    /// If the key is not in `keys`, or a value is invalid or given twice.
    pub fn parse(text: &str, keys: impl IntoIterator<Item = &'static str>) -> std::result::Result<Self, String> {
        let (name, values) = text.split_once('=').ok_or("is not KEY=VALUES, such as rpq.bits=16,20,32..=64:8")?;
        let keys: Vec<&'static str> = keys.into_iter().collect();
        let key = keys.iter().copied().find(|key| *key == name.trim()).ok_or_else(|| {
            let meant = did_you_mean(name.trim(), keys.iter().copied());
            format!("{name:?} is no key that can be swept; `mercury-analyzer sweep --help` lists keys; bounds are left out{meant}")
        })?;
        let mut axis = Self { key, values: Vec::new(), ranged: Vec::new() };
        for item in split(values) {
            axis.values.extend(expand(item.trim())?);
            axis.ranged.resize(axis.values.len(), item.contains("..="));
            if axis.values.len() > MAX_CONFIGURATIONS {
                return Err(format!("has more than {MAX_CONFIGURATIONS} values"));
            }
        }
        let mut seen = axis.values.clone();
        seen.sort();
        seen.dedup();
        if seen.len() < axis.values.len() {
            return Err("has a value twice".to_owned());
        }
        Ok(axis)
    }
}

/// Splits at commas outside of brackets.
fn split(values: &str) -> Vec<&str> {
    let (mut items, mut depth, mut first) = (Vec::new(), 0, 0);
    for (at, character) in values.char_indices() {
        match character {
            '[' | '(' => depth += 1,
            ']' | ')' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&values[first..at]);
                first = at + 1;
            }
            _ => (),
        }
    }
    items.push(&values[first..]);
    items
}

fn expand(item: &str) -> std::result::Result<Vec<String>, String> {
    let Some((first, rest)) = item.split_once("..=") else {
        return if item.is_empty() { Err("has an empty value".to_owned()) } else { Ok(vec![item.to_owned()]) };
    };
    let (last, step) = rest.split_once(':').unwrap_or((rest, "1"));
    let number = |text: &str| text.trim().parse::<u32>().ok();
    match (number(first), number(last), number(step)) {
        (Some(first), Some(last), Some(step)) if first <= last && step > 0 => Ok((first..=last)
            .step_by(step as usize)
            .take(MAX_CONFIGURATIONS + 1)
            .map(|value| value.to_string())
            .collect()),
        _ => Err(format!("{item:?} is not a range such as 8..=64:4")),
    }
}

/// The valid combinations.
#[derive(Debug)]
pub struct Grid {
    /// The swept keys.
    pub axes: Vec<Axis>,
    /// The configurations, the last axis changing fastest.
    pub configs: Vec<Config>,
    /// For each configuration, the index of its value on each axis.
    pub places: Vec<Vec<usize>>,
    /// Number of invalid combinations, and the error of the first.
    pub left_out: Option<(usize, String)>,
}

impl Grid {
    /// Combines the values of all axes, each combination overriding the base configuration.
    ///
    /// Invalid combinations, such as more ways than entries, are left out.
    ///
    /// # Errors
    /// If an axis is given twice, the grid is too large, or a value is invalid in every
    /// combination (unless it comes from a range), or the seed is swept and has no effect.
    pub fn new(axes: Vec<Axis>, origin: &str, table: &Table, overrides: &[(&'static str, String)]) -> Result<Self> {
        let flag = |reason| AnalyzerError::Flag { flag: "--set", reason };
        for (number, axis) in axes.iter().enumerate() {
            if axes[..number].iter().any(|other| other.key == axis.key) {
                return Err(flag(format!("{} is given twice; put its values into one list", axis.key)));
            }
        }
        let combinations = axes.iter().try_fold(1, |product: usize, axis| product.checked_mul(axis.values.len()));
        let combinations = combinations.filter(|&count| count <= MAX_CONFIGURATIONS);
        let combinations =
            combinations.ok_or_else(|| flag(format!("asks for more than {MAX_CONFIGURATIONS} configurations")))?;
        let mut grid = Self { axes, configs: Vec::new(), places: Vec::new(), left_out: None };
        let mut known: HashMap<String, Vec<usize>> = HashMap::new();
        for number in 0..combinations {
            let places = grid.combination(number);
            let mut all = overrides.to_vec();
            all.extend(grid.axes.iter().zip(&places).map(|(axis, &place)| (axis.key, axis.values[place].clone())));
            match Config::resolve(origin, table.clone(), &all) {
                Ok(config) => {
                    let written = serde_json::to_string(&config).expect("a configuration has string keys");
                    if let Some(equal) = known.insert(written, places.clone()) {
                        return Err(flag(format!(
                            "{} and {} are one configuration; leave one out",
                            grid.describe(&equal),
                            grid.describe(&places)
                        )));
                    }
                    grid.configs.push(config);
                    grid.places.push(places);
                }
                Err(error) => match &mut grid.left_out {
                    Some((count, _)) => *count += 1,
                    none => *none = Some((1, error.to_string())),
                },
            }
        }
        grid.check(flag)?;
        Ok(grid)
    }

    /// The values at a place of the grid, as flags have them.
    pub fn describe(&self, places: &[usize]) -> String {
        let values = self.axes.iter().zip(places).map(|(axis, &place)| format!("{}={}", axis.key, axis.values[place]));
        values.collect::<Vec<_>>().join(" ")
    }

    /// The index on each axis of the `number`-th combination.
    fn combination(&self, mut number: usize) -> Vec<usize> {
        let mut places = vec![0; self.axes.len()];
        for (place, axis) in places.iter_mut().zip(&self.axes).rev() {
            *place = number % axis.values.len();
            number /= axis.values.len();
        }
        places
    }

    fn check(&self, flag: impl Fn(String) -> AnalyzerError) -> Result<()> {
        if self.axes.iter().any(|axis| axis.key == SEED) {
            self.configs.iter().try_for_each(seeds::check_draws).map_err(&flag)?;
        }
        let Some((_, reason)) = &self.left_out else { return Ok(()) };
        if self.configs.is_empty() {
            return Err(flag(format!("no combination is valid: {reason}")));
        }
        for (number, axis) in self.axes.iter().enumerate() {
            for (place, value) in axis.values.iter().enumerate() {
                if !axis.ranged[place] && !self.places.iter().any(|places| places[number] == place) {
                    return Err(flag(format!(
                        "{}={value} goes with nothing else that is asked for: {reason}",
                        axis.key
                    )));
                }
            }
        }
        Ok(())
    }

    /// The same with this many projections for each configuration: a last axis of seeds.
    ///
    /// # Errors
    /// If the seed is swept, would exceed 63 bits or has no effect, or there are too many configurations.
    pub fn with_seeds(mut self, seeds: u32) -> Result<Self> {
        if seeds == 1 {
            return Ok(self);
        }
        let flag = |reason| AnalyzerError::Flag { flag: "--seeds", reason };
        if self.axes.iter().any(|axis| axis.key == SEED) {
            return Err(flag(format!("{SEED} is swept by --set already; leave one of them out")));
        }
        if self.configs.len() * seeds as usize > MAX_CONFIGURATIONS {
            return Err(flag(format!("asks for more than {MAX_CONFIGURATIONS} configurations")));
        }
        let first = self.configs.first().map_or(0, |config| config.rpq.seed);
        self.configs = seeds::with_seeds(&self.configs, seeds).map_err(flag)?;
        let values = (0..u64::from(seeds)).map(|more| (first + more).to_string()).collect();
        self.axes.push(Axis { key: SEED, values, ranged: vec![false; seeds as usize] });
        let places = self.places.iter().flat_map(|places| {
            (0..seeds as usize).map(|seed| places.iter().copied().chain([seed]).collect::<Vec<_>>())
        });
        self.places = places.collect();
        Ok(self)
    }

    /// The value of an axis in each configuration.
    pub fn column(&self, axis: usize) -> Vec<&str> {
        self.places.iter().map(|places| self.axes[axis].values[places[axis]].as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 5] = ["rpq.bits", "mcache.entries", "mcache.ways", "array.hit_cycles", "reuse.passes"];

    fn axis(text: &str) -> std::result::Result<Vec<String>, String> {
        Axis::parse(text, KEYS).map(|axis| axis.values)
    }

    fn grid(texts: &[&str]) -> Result<Grid> {
        let axes = texts.iter().map(|text| Axis::parse(text, KEYS).unwrap()).collect();
        Grid::new(axes, "test", &Table::new(), &[])
    }

    #[test]
    fn values_and_ranges_are_listed() {
        assert_eq!(axis("rpq.bits=4,8..=20:6, 64").unwrap(), ["4", "8", "14", "20", "64"]);
        assert_eq!(axis("mcache.ways=1..=3").unwrap(), ["1", "2", "3"]);
        assert_eq!(axis(r#"reuse.passes=["forward"],["forward","input-grad"]"#).unwrap().len(), 2);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "rpq.bits",
            "rpq.bitz=3",
            "rpq.bits=",
            "rpq.bits=1,,2",
            "rpq.bits=4..=2",
            "rpq.bits=1..=9:0",
            "rpq.bits=2,1..=3",
            "rpq.bits=1..=4000000",
        ] {
            assert!(axis(text).is_err(), "{text}");
        }
    }

    #[test]
    fn all_combinations_that_go_together_the_last_key_fastest() {
        let grid = grid(&["mcache.entries=8,16", "mcache.ways=1,8,16"]).unwrap();
        let sizes: Vec<(u32, u32)> = grid.configs.iter().map(|c| (c.mcache.entries, c.mcache.ways)).collect();
        assert!(grid.column(1).len() == sizes.len());
        assert_eq!(sizes, [(8, 1), (8, 8), (16, 1), (16, 8), (16, 16)]);
        assert_eq!(grid.left_out.unwrap().0, 1);
    }

    #[test]
    fn a_value_that_goes_with_nothing_is_an_error() {
        let error = grid(&["mcache.entries=8,16", "mcache.ways=1,3"]).unwrap_err().to_string();
        assert!(error.contains("mcache.ways=3") && error.contains("not a multiple"), "{error}");
        assert_eq!(grid(&["mcache.entries=8,16", "mcache.ways=1..=16"]).unwrap().configs.len(), 4 + 5);
        assert!(grid(&["mcache.entries=8", "mcache.ways=9..=16"]).is_err());
        let error = grid(&["array.hit_cycles=0.5,1/2"]).unwrap_err().to_string();
        assert!(error.contains("array.hit_cycles=0.5 and array.hit_cycles=1/2 are one configuration"), "{error}");
        assert!(grid(&["rpq.bits=20", "rpq.bits=21"]).unwrap_err().to_string().contains("twice"));
    }
}
