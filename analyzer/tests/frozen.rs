//! Frozen layers: training computes no gradient of their weights.

mod common;

use common::layers;
use common::place::Place;
use mercury_trace::layers as table;

/// The layer that is frozen.
const FROZEN: &str = "features.3";

/// Some columns of each row of a CSV: layer, pass, hits, cycles and error. The share of a layer in the error of all
/// layers depends on the others.
fn read_rows(csv: &str) -> Vec<Vec<String>> {
    let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let columns = ["step", "layer", "pass", "hit", "baseline_cycles", "mercury_cycles", "output_error"];
    let places = columns.map(|name| header.iter().position(|column| *column == name).unwrap());
    lines.map(|row| places.iter().map(|&place| row[place].to_owned()).collect()).collect()
}

#[test]
fn a_frozen_layer_has_no_weight_gradient() {
    let place = Place::new();
    let replay =
        |out: &str| read_rows(&place.stdout(&format!("replay trace --out {out} --format csv --stop.window 0")));
    let mut expected = replay("trained");
    let is_left_out = |row: &Vec<String>| row[1] == FROZEN && row[2] == "weight-grad";
    assert_eq!(expected.iter().filter(|row| is_left_out(row)).count(), 2);

    let mut frozen = layers();
    frozen.iter_mut().find(|layer| layer.name == FROZEN).unwrap().weight_grad = false;
    table::write(&place.path("trace"), &frozen).unwrap();
    expected.retain(|row| !is_left_out(row));
    assert_eq!(replay("frozen"), expected);
    // A search finds settings for it, too.
    let found = place.stdout("search trace --out found --folds 0 --bound layer-error<=0.2");
    let has = |pass: &str| found.lines().any(|line| line.split_whitespace().take(2).eq([FROZEN, pass]));
    assert!(has("forward") && has("input-grad") && !has("weight-grad"), "{found}");
}

#[test]
fn a_layer_behind_frozen_layers_has_only_a_forward_pass() {
    let place = Place::new();
    let mut frozen = layers();
    for layer in &mut frozen[..2] {
        (layer.input_grad, layer.weight_grad) = (false, false);
    }
    table::write(&place.path("trace"), &frozen).unwrap();
    let rows = read_rows(&place.stdout("replay trace --out results --format csv --stop.window 0"));
    let passes: Vec<&str> = rows.iter().filter(|row| row[1] == FROZEN).map(|row| row[2].as_str()).collect();
    assert_eq!(passes, ["forward"; 2]);
    let error = place.error(&format!("vectors trace --layer {FROZEN} --pass input-grad --out v.parquet"));
    assert!(error.contains("no gradient of its input, which is the data, or comes from frozen layers"), "{error}");
}
