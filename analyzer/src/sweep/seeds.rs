//! Projections of a design: configurations that differ in the seed alone.

use crate::config::Config;
use crate::replay::grouped::grouped;
use mercury_reuse::config::Rpq;

/// The key that tells projections apart.
pub const SEED: &str = "rpq.seed";

/// The numbers of the configurations of each design: those that differ in the projection's seed alone.
pub fn group_by_design(configs: &[Config]) -> Vec<Vec<usize>> {
    let without_seed = |number: usize| {
        let config = &configs[number];
        let config = Config { rpq: Rpq { seed: 0, ..config.rpq.clone() }, ..config.clone() };
        serde_json::to_string(&config).expect("a configuration has string keys and finite numbers")
    };
    grouped(0..configs.len(), without_seed).into_values().collect()
}

/// The configurations with this many projections each: consecutive seeds from each one's own.
///
/// # Errors
/// If a seed would exceed 63 bits, the integers of TOML: the number of the configuration.
pub fn with_seeds(configs: &[Config], seeds: u32) -> std::result::Result<Vec<Config>, usize> {
    let mut all = Vec::with_capacity(configs.len() * seeds as usize);
    for (number, config) in configs.iter().enumerate() {
        for more in 0..u64::from(seeds) {
            let seed = config.rpq.seed.checked_add(more).filter(|&seed| i64::try_from(seed).is_ok()).ok_or(number)?;
            all.push(Config { rpq: Rpq { seed, ..config.rpq.clone() }, ..config.clone() });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_that_differ_in_the_seed_are_one_design() {
        let mut longer = Config::default();
        longer.rpq.bits = 30;
        let all = with_seeds(&[Config::default(), longer], 3).unwrap();
        assert_eq!(all.iter().map(|config| config.rpq.seed).collect::<Vec<_>>(), [1, 2, 3, 1, 2, 3]);
        assert_eq!(group_by_design(&all), [vec![0, 1, 2], vec![3, 4, 5]]);
        let mut last = Config::default();
        last.rpq.seed = i64::MAX as u64;
        assert_eq!(with_seeds(&[last], 2), Err(0));
    }
}
