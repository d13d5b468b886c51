//! Tests of `[[layer]]` tables.

use super::*;
use mercury_trace::geometry::{Geometry, Linear};

fn parse(text: &str) -> std::result::Result<Arc<Config>, String> {
    let table: Table = text.parse().unwrap();
    check_keys(&table)?;
    Config::resolve("test", table, &[]).map(Arc::new).map_err(|error| error.to_string())
}

fn layers(names: &[&str]) -> Vec<Layer> {
    let geometry = Geometry::Linear(Linear { rows: 1, in_features: 9, out_features: 1 });
    let layer = |name: &&str| Layer { name: (*name).to_owned(), geometry, input_grad: true, weight_grad: true };
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
    assert!(error("rpq.bitz = 3").contains("rpq.bitz: is no key") && error("rpq.bitz = 3").contains("mean rpq.bits"));
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
    let check = |config: &Config, model, names| config.check_layers(model, &layers(names)).map_err(|e| e.to_string());
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
