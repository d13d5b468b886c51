//! A choice as a configuration: everything off, then a `[[layer]]` table for each layer with reuse.

use super::problem::{Group, Picks, Problem};
use crate::config::{Config, LayerOverride, McacheOverride, Pattern, ReuseOverride, RpqOverride};
use crate::layer_settings::format_setting;
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
    LayerOverride {
        name,
        passes: None,
        rpq: RpqOverride::default(),
        mcache: McacheOverride::default(),
        reuse: ReuseOverride::default(),
    }
}

/// The table of a group: what a signature is, what else differs from the base, and the passes with reuse.
fn describe_group(base: &Config, own: &Config, group: Group, layer: &Layer, reused: Vec<Pass>) -> LayerOverride {
    let rpq = RpqOverride {
        bits: Some(own.rpq.bits),
        seed: differs(&base.rpq.seed, &own.rpq.seed),
        granularity: Some(own.rpq.granularity),
        variant: Some(own.rpq.variant),
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

/// A setting in a few words: variant, length, and what else differs from that of the base.
pub fn describe_setting(own: &Config, base: &Config) -> String {
    let mut words = vec![format_setting(&own.rpq.variant), format!("{} bits", own.rpq.bits)];
    let rpq = (&own.rpq, &base.rpq);
    words.extend(differs(&rpq.1.granularity, &rpq.0.granularity).map(|own| format_setting(&own)));
    words.extend(differs(&rpq.1.projection, &rpq.0.projection).map(|own| format_setting(&own)));
    words.extend(differs(&rpq.1.seed, &rpq.0.seed).map(|own| format!("seed {own}")));
    let mcache = (&own.mcache, &base.mcache);
    words.extend(differs(&mcache.1.representative, &mcache.0.representative).map(|own| format_setting(&own)));
    words.extend(differs(&mcache.1.scope, &mcache.0.scope).map(|own| format!("scope {}", format_setting(&own))));
    words.join(", ")
}
