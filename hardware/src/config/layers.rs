//! Settings of single layers: the `[[layer]]` tables of a configuration.

use super::Config;
use crate::error::{HardwareError, Result};
use crate::suggest::{did_you_mean, in_message};
use globset::{Glob, GlobMatcher};
use mercury_reuse::config::{Granularity, Matrix, Representative, Scope, Variant};
use mercury_reuse::{check_channels, grow};
use mercury_trace::geometry::Pass;
use mercury_trace::layers::Layer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::sync::Arc;
use toml::{Table, Value};

/// The name of the tables.
const TABLES: &str = "layer";

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
    /// Entries of the projection matrix.
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
        set(&mut rpq.projection, self.rpq.projection);
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
    /// The configurations of a layer, with signatures that have grown by so many bits. Of each setting it is that of the
    /// last matching `[[layer]]` table that has it.
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
    /// layer, settings that do not go together, vectors of more channels than a layer has.
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
    let Some((section, name)) = key.split_once('.') else { return false };
    // A key is known unless it is named as unknown; its value is of the wrong type in any case.
    let wrong =
        Table::from_iter([(section.to_owned(), Table::from_iter([(name.to_owned(), Table::new().into())]).into())]);
    wrong.try_into::<Config>().err().is_some_and(|error| !in_message(error.message()).contains("unknown field"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mercury_trace::geometry::{Geometry, Linear};

    fn parse(text: &str) -> std::result::Result<Arc<Config>, String> {
        let table: Table = text.parse().unwrap();
        check_keys(&table)?;
        Config::resolve("test", table, &[]).map(Arc::new).map_err(|error| error.to_string())
    }

    fn layers(names: &[&str]) -> Vec<Layer> {
        let geometry = Geometry::Linear(Linear { rows: 1, in_features: 9, out_features: 1 });
        let layer = |name: &&str| Layer { name: (*name).to_owned(), geometry, input_grad: true };
        names.iter().map(layer).collect()
    }

    const TABLES: &str = "
        [rpq]
        bits = 20
        [[layer]]
        name = 'features.*'
        rpq.bits = 40
        rpq.variant = 'sign+rescale'
        [[layer]]
        name = 'features.3'
        passes = ['input-grad']
        rpq.bits = 12
        mcache.scope = 'sample'
        [[layer]]
        name = 'classifier.?'
        reuse.passes = []
        [[layer]]
        name = 'features.0'
        passes = ['forward']
        reuse.passes = ['forward']";

    #[test]
    fn the_last_table_that_has_a_setting_wins() {
        let config = parse(TABLES).unwrap();
        let bits = |layer, pass| config.layer_configs(layer, 0).pass(pass).rpq.bits;
        assert_eq!(Pass::ALL.map(|pass| bits("features.3", pass)), [40, 12, 40]);
        assert_eq!(Pass::ALL.map(|pass| bits("conv1", pass)), [20; 3]);
        let own = config.layer_configs("features.3", 2);
        let input_grad = own.pass(Pass::InputGrad);
        // Of the table before it has the variant.
        assert_eq!((input_grad.rpq.bits, input_grad.rpq.variant), (14, Variant::SignRescale));
        assert_eq!(input_grad.mcache.scope, Scope::Sample);
        assert_eq!(own.pass(Pass::Forward).mcache.scope, Scope::Channel);
        let passes = |layer| config.layer_configs(layer, 0).pass(Pass::Forward).reuse.passes.clone();
        assert_eq!(passes("classifier.0"), []);
        assert_eq!(passes("features.0"), [Pass::Forward, Pass::InputGrad]);
        assert_eq!(passes("features.3"), Pass::ALL);
    }

    #[test]
    fn tables_read_back_as_they_are_written() {
        let config = parse(TABLES).unwrap();
        let text = toml::to_string(&*config).unwrap();
        assert_eq!(parse(&text).unwrap(), config, "{text}");
        let json = serde_json::to_string(&*config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), *config);
        let named = parse("model = 'vgg16'\n[rpq]\nbits = 9").unwrap();
        assert_eq!(named.model.as_deref(), Some("vgg16"));
        assert_eq!(parse(&Table::try_from(&*named).unwrap().to_string()).unwrap(), named);
    }

    #[test]
    fn what_no_layer_has_of_its_own_is_refused_by_key() {
        let error = |keys: &str| parse(&format!("[[layer]]\nname = 'a'\n{keys}")).unwrap_err();
        let shared = error("mcache.entries = 4");
        assert!(
            shared.contains("[[layer]] 1 (a): mcache.entries: is shared by all layers; set it in [mcache]"),
            "{shared}"
        );
        assert!(error("rpq.unit = 'free'").contains("rpq.unit: is shared"));
        assert!(error("array.rows = 3").contains("array.rows: is shared"));
        assert!(
            error("rpq.bitz = 3").contains("rpq.bitz: is no key") && error("rpq.bitz = 3").contains("mean rpq.bits")
        );
        assert!(error("rpq.bits = 65").contains("[[layer]] 1 (a): rpq.bits: is 65"));
        assert!(error("passes = ['weight-grad']").contains("list forward instead"));
        assert!(error("passes = []").contains("is empty"));
        assert!(error("passes = ['forward']\nreuse.passes = ['input-grad']").contains("is none of the passes"));
        assert!(error("reuse.passes = ['weight-grad']").contains("add forward"));
        assert!(error("mcache.scope = 'batch'").contains("mcache.scope: is batch"));
        assert!(parse("[[layer]]\nname = '[a'").unwrap_err().contains("is no pattern"));
    }

    #[test]
    fn tables_for_other_layers_are_refused() {
        let config = parse(TABLES).unwrap();
        let check =
            |config: &Config, model, names| config.check_layers(model, &layers(names)).map_err(|e| e.to_string());
        check(&config, "vgg16", &["features.0", "features.3", "classifier.0"]).unwrap();
        let error = check(&config, "vgg16", &["features.0", "features.30", "classifier.0"]).unwrap_err();
        assert!(error.contains("\"features.3\" matches no layer of vgg16; did you mean features.30"), "{error}");
        let named = Config { model: Some("vgg16".to_owned()), ..Config::default() };
        assert!(check(&named, "vgg13", &["features.0"]).unwrap_err().contains("is for vgg16, but the model is vgg13"));
        // Each table is valid, but not both together.
        let long = "[[layer]]\nname = '*'\nrpq.bits = 60\n[[layer]]\nname = 'a'\nrpq.variant = 'sign+magnitude(5)'";
        let error = check(&parse(long).unwrap(), "m", &["a"]).unwrap_err();
        assert!(error.contains("[[layer]] of a (forward): rpq.variant"), "{error}");
    }
}
