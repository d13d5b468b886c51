//! Projections of a design: configurations that differ in the seed alone.

use crate::config::Config;
use crate::replay::grouped::grouped;

/// The key that tells projections apart.
pub const SEED: &str = "rpq.seed";

/// The numbers of the configurations of each design: those that differ in the projection's seed alone.
pub fn group_by_design(configs: &[Config]) -> Vec<Vec<usize>> {
    let without_seed = |number: usize| {
        let config = with_seeds_after(&configs[number], configs[number].rpq.seed.wrapping_neg());
        serde_json::to_string(&config).expect("a configuration has string keys and finite numbers")
    };
    grouped(0..configs.len(), without_seed).into_values().collect()
}

/// The configuration with all seeds, also those of single layers, increased.
fn with_seeds_after(config: &Config, more: u64) -> Config {
    let mut config = config.clone();
    config.rpq.seed = config.rpq.seed.wrapping_add(more);
    for seed in config.layer.iter_mut().filter_map(|table| table.rpq.seed.as_mut()) {
        *seed = seed.wrapping_add(more);
    }
    config
}

/// The configurations with this many projections each: consecutive seeds from each one's own.
///
/// # Errors
/// If a seed would exceed 63 bits, the integers of TOML, or there are several for a configuration that draws nothing.
pub fn with_seeds(configs: &[Config], seeds: u32) -> std::result::Result<Vec<Config>, String> {
    let mut all = Vec::with_capacity(configs.len() * seeds as usize);
    for config in configs {
        if seeds > 1 {
            check_draws(config)?;
        }
        for more in 0..u64::from(seeds) {
            let own = config.layer.iter().filter_map(|table| table.rpq.seed);
            let largest = own.chain([config.rpq.seed]).max().unwrap_or(0);
            if largest.checked_add(more).is_none_or(|seed| i64::try_from(seed).is_err()) {
                return Err(format!("with {SEED} {} the seeds exceed 63 bits", config.rpq.seed));
            }
            all.push(with_seeds_after(config, more));
        }
    }
    Ok(all)
}

/// Refuses a configuration without drawn projections.
///
/// # Errors
/// If no seed has an effect on its results.
pub fn check_draws(config: &Config) -> std::result::Result<(), String> {
    if config.draws_projections() {
        return Ok(());
    }
    Err(format!(
        "rpq.projection is {}, which is not drawn, so all seeds give the same results; leave the seeds out, or give \
         several files",
        config.rpq.projection
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mercury_reuse::config::{GivenProjection, Matrix};
    use std::sync::Arc;

    #[test]
    fn configurations_that_differ_in_the_seed_are_one_design() {
        let mut longer = Config::default();
        longer.rpq.bits = 30;
        let all = with_seeds(&[Config::default(), longer], 3).unwrap();
        assert_eq!(all.iter().map(|config| config.rpq.seed).collect::<Vec<_>>(), [1, 2, 3, 1, 2, 3]);
        assert_eq!(group_by_design(&all), [vec![0, 1, 2], vec![3, 4, 5]]);
        let mut own: Config =
            toml::from_str("[[layer]]\nname = 'a'\nrpq.seed = 7\n[[layer]]\nname = 'b'\nrpq.bits = 9").unwrap();
        own.rpq.seed = 3;
        let all = with_seeds(&[own], 2).unwrap();
        assert_eq!(all[1].layer[0].rpq.seed, Some(8));
        assert_eq!((all[1].rpq.seed, all[1].layer[1].rpq.seed), (4, None));
        assert_eq!(group_by_design(&all), [vec![0, 1]]);
        let mut last = Config::default();
        last.rpq.seed = i64::MAX as u64;
        let error = with_seeds(&[last], 2).unwrap_err();
        assert_eq!(error, "with rpq.seed 9223372036854775807 the seeds exceed 63 bits");
    }

    #[test]
    fn a_projection_from_outside_has_no_seeds() {
        let given = GivenProjection::from_tensors("file:R".to_owned(), vec![(9, 20, vec![1.0; 180])]).unwrap();
        let mut config = Config::default();
        config.rpq.projection = Matrix::Given(Arc::new(given));
        assert_eq!(with_seeds(&[config.clone()], 1).unwrap(), [config.clone()]);
        let error = with_seeds(&[Config::default(), config.clone()], 2).unwrap_err();
        assert!(error.starts_with("rpq.projection is file:R#") && error.contains("leave the seeds out"), "{error}");
        // Another layer draws its own.
        let tables: Config = toml::from_str("[[layer]]\nname = 'a'\nrpq.projection = 'sparse'").unwrap();
        config.layer = tables.layer;
        assert_eq!(with_seeds(&[config], 2).unwrap().len(), 2);
    }
}
