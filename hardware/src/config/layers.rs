//! Settings of single layers: the `[[layer]]` tables of a configuration.

use super::Config;
use crate::error::{HardwareError, Result};
use crate::suggest::did_you_mean;
use globset::{Glob, GlobMatcher};
use mercury_reuse::config::{Granularity, Matrix, Representative, Scope, Variant};
use mercury_reuse::{check_channels, grow};
use mercury_trace::geometry::Pass;
use mercury_trace::layers::Layer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::sync::Arc;
use toml::{Table, Value};

/// The name of the tables.
pub(super) const TABLES: &str = "layer";

/// Settings that the layers of a pattern have instead of the configuration's own; each is `None` where it is the
/// configuration's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerOverride {
    /// Names of the layers.
    pub name: Pattern,
    /// Passes with these settings: `forward`, whose signatures the weight gradient shares, and `input-grad`; `None`: both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passes: Option<Vec<Pass>>,
    /// Signatures.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rpq: RpqOverride,
    /// The cache.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mcache: McacheOverride,
    /// Where the scheme is applied.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reuse: ReuseOverride,
}

/// Settings of [`mercury_reuse::config::Rpq`] that layers may have of their own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RpqOverride {
    /// Signature length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits: Option<u32>,
    /// Seed of the projection matrix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// How vectors are cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub granularity: Option<Granularity>,
    /// What the signature says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<Variant>,
    /// The projection matrix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub projection: Option<Matrix>,
}

/// Settings of [`mercury_reuse::config::McacheConfig`] that layers may have of their own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct McacheOverride {
    /// What stands for the vectors that share an entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub representative: Option<Representative>,
    /// When the cache is flushed in a convolution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
}

/// Settings of [`super::ReuseConfig`] that layers may have of their own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReuseOverride {
    /// Passes with reuse.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passes: Option<Vec<Pass>>,
}

/// Keys that a layer may have of its own, as `SECTION.KEY`.
pub const LAYER_KEYS: [&str; 8] = [
    "rpq.bits",
    "rpq.seed",
    "rpq.granularity",
    "rpq.variant",
    "rpq.projection",
    "mcache.representative",
    "mcache.scope",
    "reuse.passes",
];

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Names of layers: a glob such as `features.*`.
#[derive(Debug, Clone)]
pub struct Pattern(GlobMatcher);

impl Pattern {
    /// The pattern that matches one name.
    ///
    /// # Panics
    /// Never: an escaped name is a valid glob.
    pub fn from_name(name: &str) -> Self {
        Self(Glob::new(&globset::escape(name)).expect("an escaped name is a glob").compile_matcher())
    }

    /// The pattern that matches all names.
    ///
    /// # Panics
    /// Never: `*` is a valid glob.
    pub fn any() -> Self {
        Self(Glob::new("*").expect("an asterisk is a glob").compile_matcher())
    }

    /// The pattern's text.
    pub fn text(&self) -> &str {
        self.0.glob().glob()
    }

    /// Whether a layer has such a name.
    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text())
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let glob = Glob::new(&text).map_err(|error| de::Error::custom(format!("is no pattern of names: {error}")))?;
        Ok(Self(glob.compile_matcher()))
    }
}

/// The configurations of a layer's passes: the forward pass and the weight gradient share one, because they share
/// signatures.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerConfigs {
    forward: Arc<Config>,
    input_grad: Arc<Config>,
}

impl LayerConfigs {
    /// The same with another projection matrix in the forward pass and weight gradient, whose signatures have at most as
    /// many bits as it gives.
    #[must_use]
    pub fn with_projection(self, projection: Matrix) -> Self {
        let mut forward = Config::clone(&self.forward);
        forward.rpq.bits = forward.rpq.bits.min(projection.max_bits());
        forward.rpq.projection = projection;
        Self { forward: Arc::new(forward), ..self }
    }

    /// The configuration of a pass.
    pub fn pass(&self, pass: Pass) -> &Arc<Config> {
        match pass {
            Pass::Forward | Pass::WeightGrad => &self.forward,
            Pass::InputGrad => &self.input_grad,
        }
    }
}

/// The pass whose vectors decide a pass's outcomes: the weight gradient keeps those of the forward pass.
pub fn find_source(pass: Pass) -> Pass {
    if pass == Pass::WeightGrad { Pass::Forward } else { pass }
}

impl LayerOverride {
    fn applies_to(&self, source: Pass) -> bool {
        self.passes.as_ref().is_none_or(|passes| passes.contains(&source))
    }

    /// Sets what is given for the passes that take their outcomes from `source`, but for the passes with reuse.
    fn apply(&self, config: &mut Config, source: Pass) {
        if !self.applies_to(source) {
            return;
        }
        let (rpq, mcache) = (&mut config.rpq, &mut config.mcache);
        set(&mut rpq.bits, self.rpq.bits);
        set(&mut rpq.seed, self.rpq.seed);
        set(&mut rpq.granularity, self.rpq.granularity);
        set(&mut rpq.variant, self.rpq.variant);
        set(&mut rpq.projection, self.rpq.projection.clone());
        set(&mut mcache.representative, self.mcache.representative);
        set(&mut mcache.scope, self.mcache.scope);
    }

    /// Sets the passes with reuse of those that it applies to.
    fn apply_passes(&self, passes: &mut Vec<Pass>) {
        let Some(own) = &self.reuse.passes else { return };
        passes.retain(|pass| !self.applies_to(find_source(*pass)));
        passes.extend(own.iter().filter(|pass| self.applies_to(find_source(**pass))));
        passes.sort_unstable();
        passes.dedup();
    }

    /// Checks what can be told without the other tables.
    fn validate(&self) -> std::result::Result<(), String> {
        let Some(passes) = &self.passes else { return Ok(()) };
        if passes.is_empty() {
            return Err("passes: is empty; list forward or input-grad, or leave it out for both".to_owned());
        }
        if passes.contains(&Pass::WeightGrad) {
            return Err("passes: weight-grad has the settings of forward, because it shares its signatures; list \
                        forward instead"
                .to_owned());
        }
        let foreign = self.reuse.passes.iter().flatten().find(|pass| !self.applies_to(find_source(**pass)));
        match foreign {
            Some(pass) => Err(format!("reuse.passes: {pass} is none of the passes of this table; leave it out")),
            None => Ok(()),
        }
    }
}

fn set<T>(value: &mut T, own: Option<T>) {
    if let Some(own) = own {
        *value = own;
    }
}

impl Config {
    /// The configurations of a layer, with signatures that have grown by this many bits. Each setting comes from the last
    /// matching `[[layer]]` table that has it, or else from this configuration.
    pub fn layer_configs(self: &Arc<Self>, name: &str, grown_bits: u32) -> LayerConfigs {
        if self.layer.is_empty() && grown_bits == 0 {
            return LayerConfigs { forward: Arc::clone(self), input_grad: Arc::clone(self) };
        }
        let matching: Vec<&LayerOverride> = self.layer.iter().filter(|table| table.name.matches(name)).collect();
        let mut base = Config { layer: Vec::new(), ..Config::clone(self) };
        for table in &matching {
            table.apply_passes(&mut base.reuse.passes);
        }
        let resolve = |source: Pass| {
            let mut config = base.clone();
            for table in &matching {
                table.apply(&mut config, source);
            }
            config.rpq.bits = grow(&config.rpq, &config.bits, grown_bits);
            Arc::new(config)
        };
        LayerConfigs { forward: resolve(Pass::Forward), input_grad: resolve(Pass::InputGrad) }
    }

    /// Refuses a configuration that does not fit the layers of a model: one for another model, a pattern that matches no
    /// layer, settings that do not go together, vectors of more channels than a layer has, a projection from a file
    /// that has no tensor for a layer's vectors.
    pub fn check_layers(&self, model: &str, layers: &[Layer]) -> Result<()> {
        let fail = |reason: String| HardwareError::Layers { reason };
        if let Some(intended) = self.model.as_deref().filter(|intended| *intended != model) {
            return Err(fail(format!(
                "model: the configuration is for {intended}, but the model is {model}; search on a trace of {model}, or \
                 remove the key if the layers are the same"
            )));
        }
        for table in &self.layer {
            let text = table.name.text();
            if !layers.iter().any(|layer| table.name.matches(&layer.name)) {
                // A pattern is like no name.
                let names = layers.iter().filter(|_| !text.contains(['*', '?', '[', '{']));
                let meant = did_you_mean(text, names.map(|layer| layer.name.as_str()));
                let known: Vec<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
                let known = if meant.is_empty() { format!("; its layers are {}", known.join(", ")) } else { meant };
                return Err(fail(format!("[[layer]] name: {text:?} matches no layer of {model}{known}")));
            }
        }
        self.check_projections(layers).map_err(fail)?;
        if self.layer.is_empty() {
            return check_channels(self.rpq.granularity, layers).map_err(|error| fail(error.to_string()));
        }
        let shared = Arc::new(self.clone());
        let mut cuts: Vec<(Granularity, Vec<&Layer>)> = Vec::new();
        for layer in layers {
            let configs = shared.layer_configs(&layer.name, 0);
            for source in [Pass::Forward, Pass::InputGrad] {
                let config = configs.pass(source);
                config
                    .validate()
                    .map_err(|reason| fail(format!("[[layer]] of {} ({source}): {reason}", layer.name)))?;
                let granularity = config.rpq.granularity;
                match cuts.iter_mut().find(|(known, _)| *known == granularity) {
                    Some((_, members)) => members.push(layer),
                    None => cuts.push((granularity, vec![layer])),
                }
            }
        }
        for (granularity, members) in cuts {
            check_channels(granularity, members).map_err(|error| fail(format!("[[layer]] {error}")))?;
        }
        Ok(())
    }

    /// Checks each `[[layer]]` table.
    pub(super) fn validate_layers(&self) -> std::result::Result<(), String> {
        for (number, table) in (1..).zip(&self.layer) {
            let fail = |reason| format!("[[layer]] {number} ({}): {reason}", table.name.text());
            table.validate().map_err(fail)?;
            let mut config = Config { layer: Vec::new(), ..self.clone() };
            table.apply_passes(&mut config.reuse.passes);
            for source in [Pass::Forward, Pass::InputGrad] {
                let mut config = config.clone();
                table.apply(&mut config, source);
                config.validate().map_err(fail)?;
            }
        }
        Ok(())
    }
}

/// Refuses `[[layer]]` tables with keys that no layer has of its own, in words that say why.
pub(super) fn check_keys(table: &Table) -> std::result::Result<(), String> {
    let Some(Value::Array(tables)) = table.get(TABLES) else { return Ok(()) };
    for (number, table) in (1..).zip(tables) {
        let name = table.get("name").and_then(Value::as_str).unwrap_or("no name");
        for (section, keys) in table.as_table().into_iter().flatten() {
            if ["name", "passes"].contains(&section.as_str()) {
                continue;
            }
            for key in keys.as_table().into_iter().flat_map(Table::keys) {
                let key = format!("{section}.{key}");
                if !LAYER_KEYS.contains(&key.as_str()) {
                    return Err(format!("[[layer]] {number} ({name}): {key}: {}", describe_key(&key)));
                }
            }
        }
    }
    Ok(())
}

/// Why a layer has no such key.
fn describe_key(key: &str) -> String {
    let own = LAYER_KEYS.join(", ");
    if is_known(key) {
        let (section, _) = key.split_once('.').unwrap_or((key, ""));
        return format!("is shared by all layers; set it in [{section}] (a layer may have {own})");
    }
    format!("is no key of a configuration; a layer may have {own}{}", did_you_mean(key, LAYER_KEYS))
}

/// Whether a configuration has this key.
fn is_known(key: &str) -> bool {
    let mut config = Config::default();
    // Keys without a default.
    config.rpq.macs_per_cycle = Some(1);
    config.array.accumulate_lanes = Some(1);
    config.energy.mcache = Some(1.0);
    let table = Table::try_from(config).expect("a configuration is a table");
    key.split_once('.').is_some_and(|(section, name)| table.get(section).and_then(|keys| keys.get(name)).is_some())
}

#[cfg(test)]
#[path = "layers_tests.rs"]
mod tests;
