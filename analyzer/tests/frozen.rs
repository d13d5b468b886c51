//! Frozen layers: training computes no gradient of their weights.

mod common;

use common::layers;
use common::place::Place;
use mercury_trace::layers as table;

/// Lists the passes of a layer at step 10 in CSV.
fn list_passes(csv: &str, layer: &str) -> Vec<String> {
    let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let find = |name: &str| header.iter().position(|column| *column == name).unwrap();
    let (name, pass, step) = (find("layer"), find("pass"), find("step"));
    lines.filter(|row| row[name] == layer && row[step] == "10").map(|row| row[pass].to_owned()).collect()
}

#[test]
fn a_frozen_layer_has_no_weight_gradient() {
    let place = Place::new();
    let mut frozen = layers();
    frozen[1].weight_grad = false;
    table::write(&place.path("trace"), &frozen).unwrap();
    let csv = place.stdout("replay trace --out results --format csv");
    assert_eq!(list_passes(&csv, "features.3"), ["forward", "input-grad"]);
    assert_eq!(list_passes(&csv, "classifier.0"), ["forward", "input-grad", "weight-grad"]);
    // Its forward pass and input gradient are those of a layer that is trained.
    table::write(&place.path("trace"), &layers()).unwrap();
    let trained = place.stdout("replay trace --out others --format csv");
    let rows = |csv: &str| -> Vec<String> {
        let is_counted = |line: &&str| !(line.contains(",features.3,") && line.contains(",weight-grad,"));
        csv.lines().filter(is_counted).map(str::to_owned).collect()
    };
    assert_eq!(rows(&csv), rows(&trained));
    // A search finds settings for it, too.
    table::write(&place.path("trace"), &frozen).unwrap();
    let found = place.stdout("search trace --out found --folds 0 --bound layer-error<=0.2");
    assert!(found.contains("features.3"), "{found}");
}
