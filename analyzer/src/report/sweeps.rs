//! Comparison of configurations, and the choice of those that the page shows in full.

use super::design;
use super::layers::{Row, to_rows};
use super::search::{self, name_design};
use super::source::Source;
use super::view::describe_setting;
use crate::error::Result;
use crate::schema::configurations;
use crate::schema::run::RUN_FILE;
use crate::sweep::pareto::{Metric, frontier};
use crate::sweep::summary::PARETO;
use serde_json::Value;

/// Maximum number of configurations of a sweep in the charts. Of a larger sweep, only the frontier
/// is drawn.
const MOST_POINTS: usize = 2000;
/// Maximum number of configurations of a sweep that are shown in full.
const MOST_VIEWS: usize = 24;

/// The columns by which configurations are compared: error and speed. Speed is measured in
/// MERCURY's cycles, since speed-ups of different arrays are relative to different baselines. On
/// one array both rank configurations alike.
const METRICS: [&str; 2] = [configurations::OUTPUT_ERROR.name, configurations::MERCURY_CYCLES.name];

/// One row per configuration of some results, for the charts: its row of `configurations.parquet`
/// with added columns.
///
/// The added columns are `results` (their name), `rpq.bits` (null if layers with reuse differ in it), `trace` and `part`
/// (the replayed trace and part of it), `searched` (whether a search found it), `setting` (the values of the other swept
/// keys, or the reading and method of a search) and `pareto` (whether it is on the frontier).
pub fn list_points(source: &Source) -> Result<Vec<Row>> {
    let mut points = to_rows(&source.configurations)?;
    let keys = source.axes.iter().flatten().map(|(key, _)| key.as_str()).filter(|key| *key != "rpq.bits");
    let keys: Vec<&str> = keys.collect();
    let path = source.dir.join(RUN_FILE);
    for (number, point) in points.iter_mut().enumerate() {
        let design = name_design(&source.run, number);
        point.insert("searched".to_owned(), design.is_some().into());
        let settings = design.unwrap_or_else(|| describe_setting(point, keys.iter().copied()));
        let name = &source.name;
        point.insert("results".to_owned(), name.clone().into());
        let setting = if settings.is_empty() { name.clone() } else { format!("{name}: {settings}") };
        point.insert("setting".to_owned(), setting.into());
        point.insert("trace".to_owned(), source.run.trace.manifest_sha256.clone().into());
        point.insert("part".to_owned(), source.run.part().into());
        let bits = if source.run.is_per_layer(number) {
            design::single_length(&source.run, number).map(f64::from)
        } else {
            Some(source.run.number(&path, number, "rpq", "bits")?)
        };
        point.insert("rpq.bits".to_owned(), bits.into());
    }
    mark_frontier(&mut points);
    if points.len() > MOST_POINTS {
        points.retain(|point| point[PARETO] == true);
    }
    Ok(points)
}

/// Marks the points on the frontier, in column `pareto`. Only points with the same trace, part and
/// steps are compared. The bound that a search adds is no hardware, so it competes with none.
pub fn mark_frontier(points: &mut [Row]) {
    let metrics = METRICS.map(|name| Metric::parse(name).expect("it is a metric"));
    let works: Vec<[Value; 3]> = points
        .iter()
        .map(|point| ["trace", "part", configurations::STEPS.name].map(|key| point[key].clone()))
        .collect();
    let mut distinct = works.clone();
    distinct.sort_by_key(|keys| keys.clone().map(|key| key.to_string()));
    distinct.dedup();
    for work in distinct {
        let (bounds, rivals): (Vec<usize>, Vec<usize>) = (0..points.len())
            .filter(|&index| works[index] == work)
            .partition(|&index| is_searched_bound(&points[index]));
        for index in bounds {
            points[index].insert(PARETO.to_owned(), false.into());
        }
        let values = |name: &str| rivals.iter().map(|&index| points[index][name].as_f64()).collect();
        let is_on_frontier = frontier(&metrics, &METRICS.map(values));
        for (&index, is_on_frontier) in rivals.iter().zip(is_on_frontier) {
            points[index].insert(PARETO.to_owned(), is_on_frontier.into());
        }
    }
}

fn is_searched_bound(point: &Row) -> bool {
    ["searched", configurations::IS_BOUND.name].iter().all(|name| point.get(*name) == Some(&Value::Bool(true)))
}

/// Chooses the configurations that the page shows in full: all of a replay; the frontier of a
/// sweep; the recommended design of a search, and its reading as configured.
pub fn choose_views(source: &Source, points: &[Row]) -> Vec<usize> {
    if let Some(record) = &source.run.search {
        return search::choose_views(record);
    }
    if source.axes.is_none() { (0..points.len()).collect() } else { choose_from_sweep(points) }
}

/// The configurations on the frontier, the fastest first, without those whose error and cycles
/// equal an earlier one's. Without errors there is no frontier, and the fastest configuration is
/// chosen.
fn choose_from_sweep(points: &[Row]) -> Vec<usize> {
    let cycles = |point: &Row| point[configurations::MERCURY_CYCLES.name].as_u64().unwrap_or(u64::MAX);
    let number = |point: &Row| point[configurations::CONFIGURATION.name].as_u64().unwrap_or(0) as usize;
    let mut sorted: Vec<&Row> = points.iter().collect();
    sorted.sort_by_key(|point| (cycles(point), number(point)));
    let mut best: Vec<&Row> = sorted.iter().copied().filter(|point| point[PARETO] == true).collect();
    // A swept key without effect gives several equal configurations.
    best.dedup_by(|a, b| METRICS.iter().all(|metric| a[*metric] == b[*metric]));
    if best.is_empty() {
        best.extend(sorted.first());
    }
    best.into_iter().take(MOST_VIEWS).map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn mark_points(points: &[(&str, Option<f64>, u64)]) -> Vec<Row> {
        let point = |(number, (trace, error, cycles)): (usize, &(&str, Option<f64>, u64))| {
            let json = json!({"configuration": number, "trace": trace, "part": null, "steps": 1, "output_error": error,
                              "mercury_cycles": cycles});
            json.as_object().unwrap().clone()
        };
        let mut points: Vec<Row> = points.iter().enumerate().map(point).collect();
        mark_frontier(&mut points);
        points
    }

    #[test]
    fn a_trace_has_a_frontier_of_its_own() {
        let points =
            mark_points(&[("a", Some(0.1), 90), ("a", Some(0.2), 100), ("b", Some(0.3), 110), ("b", None, 50)]);
        let on: Vec<bool> = points.iter().map(|point| point["pareto"] == true).collect();
        assert_eq!(on, [true, false, true, false]);
        // Cycles over different numbers of steps are not compared.
        let mut points = mark_points(&[("a", Some(0.1), 90), ("a", Some(0.1), 180)]);
        points[1].insert("steps".to_owned(), 2.into());
        mark_frontier(&mut points);
        assert!(points.iter().all(|point| point["pareto"] == true));
        // No hardware reaches the bound of a search.
        let mut points = mark_points(&[("a", Some(0.1), 90), ("a", Some(0.1), 20)]);
        points[1].extend([("searched".to_owned(), true.into()), ("is_bound".to_owned(), true.into())]);
        mark_frontier(&mut points);
        assert_eq!((&points[0]["pareto"], &points[1]["pareto"]), (&true.into(), &false.into()));
    }

    #[test]
    fn the_fastest_comes_first_and_equal_configurations_appear_once() {
        let points = mark_points(&[
            ("a", Some(0.1), 90),
            ("a", Some(0.3), 70),
            ("a", Some(0.3), 70),
            ("a", Some(0.2), 100),
            ("a", Some(0.2), 80),
        ]);
        assert_eq!(choose_from_sweep(&points), [1, 4, 0]);
        assert_eq!(choose_from_sweep(&mark_points(&[("a", None, 100), ("a", None, 67)])), [1]);
    }
}
