//! A choice as a configuration: everything off, then a `[[layer]]` table for each layer with reuse.

use super::problem::{Group, Picks, Problem};
use crate::config::{Config, LayerOverride, McacheOverride, Pattern, ReuseOverride, RpqOverride};
use mercury_trace::geometry::Pass;
use mercury_trace::layers::Layer;

/// Writes a choice as a configuration for the layers of a model.
///
/// The first table switches all layers off, so that layers that were not searched are computed exactly.
pub fn build_config(problem: &Problem, base: &Config, picks: &Picks, model: &str, layers: &[Layer]) -> Config {
    let mut config = Config { model: Some(model.to_owned()), ..base.clone() };
    config.layer = vec![LayerOverride { reuse: ReuseOverride { passes: Some(Vec::new()) }, ..table(Pattern::any()) }];
    for (number, layer) in layers.iter().enumerate() {
        let mut tables: Vec<LayerOverride> = Vec::new();
        for (group, &pick) in problem.groups.iter().zip(picks).filter(|(group, _)| group.layer == number) {
            let candidate = &problem.candidates()[pick];
            let reused: Vec<Pass> = group.passes().iter().copied().filter(|&pass| candidate.reuses(pass)).collect();
            if !reused.is_empty() {
                tables.push(describe_group(base, &candidate.config, *group, layer, reused));
            }
        }
        if let [forward, input_grad] = tables.as_mut_slice()
            && (&forward.rpq, &forward.mcache) == (&input_grad.rpq, &input_grad.mcache)
        {
            // One table for both.
            forward.passes = None;
            let more = input_grad.reuse.passes.take();
            forward.reuse.passes.iter_mut().for_each(|passes| passes.extend(more.iter().flatten()));
            forward.reuse.passes.iter_mut().for_each(|passes| passes.sort_unstable());
            tables.truncate(1);
        }
        config.layer.extend(tables);
    }
    config
}

fn table(name: Pattern) -> LayerOverride {
    let (rpq, mcache, reuse) = Default::default();
    LayerOverride { name, passes: None, rpq, mcache, reuse }
}

/// The table of a group: what differs from the base, and the passes with reuse.
fn describe_group(base: &Config, own: &Config, group: Group, layer: &Layer, reused: Vec<Pass>) -> LayerOverride {
    let rpq = RpqOverride {
        bits: differs(&base.rpq.bits, &own.rpq.bits),
        seed: differs(&base.rpq.seed, &own.rpq.seed),
        granularity: differs(&base.rpq.granularity, &own.rpq.granularity),
        variant: differs(&base.rpq.variant, &own.rpq.variant),
        projection: differs(&base.rpq.projection, &own.rpq.projection),
    };
    let mcache = McacheOverride {
        representative: differs(&base.mcache.representative, &own.mcache.representative),
        scope: differs(&base.mcache.scope, &own.mcache.scope),
    };
    let name = Pattern::from_name(&layer.name);
    let reuse = ReuseOverride { passes: Some(reused) };
    LayerOverride { passes: Some(vec![group.source]), rpq, mcache, reuse, ..table(name) }
}

fn differs<T: PartialEq + Clone>(base: &T, own: &T) -> Option<T> {
    (base != own).then(|| own.clone())
}

/// The settings of a candidate in a few words: what it has differently from other candidates.
pub fn describe_candidate(config: &Config) -> String {
    use crate::layer_settings::format_setting;
    let mut text = format!("{} {} bits", format_setting(&config.rpq.variant), config.rpq.bits);
    let default = Config::default();
    let mut add = |name: &str, own: String, usual: String| {
        if own != usual {
            text += &format!(", {name}{own}");
        }
    };
    let granularity = |config: &Config| format_setting(&config.rpq.granularity);
    add("", granularity(config), granularity(&default));
    add("", format_setting(&config.rpq.projection), format_setting(&default.rpq.projection));
    add("", format_setting(&config.mcache.representative), format_setting(&default.mcache.representative));
    add("scope ", format_setting(&config.mcache.scope), format_setting(&default.mcache.scope));
    text
}
