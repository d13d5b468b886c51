//! Configurations side by side, and those of a sweep that are worth a look.

use super::layers::{Row, rows};
use super::source::Source;
use super::view::setting;
use crate::error::Result;
use crate::schema::configurations;
use crate::schema::run::RUN_FILE;
use crate::sweep::pareto::{Metric, frontier};
use crate::sweep::summary::PARETO;
use serde_json::Value;

/// Configurations of one sweep that the charts show at most; of more, those on the frontier.
const MOST_POINTS: usize = 2000;
/// Configurations of one sweep that are shown in full at most.
const MOST_VIEWS: usize = 24;

/// What configurations are compared by: error against speed. Speed is that of MERCURY, as speed-ups of several arrays
/// are relative to as many baselines; on one array both rank alike.
const METRICS: [&str; 2] = [configurations::OUTPUT_ERROR.name, configurations::MERCURY_CYCLES.name];

/// A row for each configuration of some results: that of `configurations.parquet` with `rpq.bits`, the
/// `trace` and `part` of it that it is of, its `setting` of other keys, and whether it is on the frontier (`pareto`).
pub fn points(source: &Source) -> Result<Vec<Row>> {
    let mut points = rows(&source.configurations)?;
    let keys = source.axes.iter().flatten().map(|(key, _)| key.as_str()).filter(|key| *key != "rpq.bits");
    let keys: Vec<&str> = keys.collect();
    let path = source.dir.join(RUN_FILE);
    for (number, point) in points.iter_mut().enumerate() {
        let settings = setting(point, keys.iter().copied());
        let name = &source.name;
        let setting = if settings.is_empty() { name.clone() } else { format!("{name}: {settings}") };
        point.insert("setting".to_owned(), setting.into());
        point.insert("trace".to_owned(), source.run.trace.manifest_sha256.clone().into());
        point.insert("part".to_owned(), source.run.part().into());
        point.insert("rpq.bits".to_owned(), source.run.number(&path, number, "rpq", "bits")?.into());
    }
    mark(&mut points);
    if points.len() > MOST_POINTS {
        points.retain(|point| point[PARETO] == true);
    }
    Ok(points)
}

/// Marks those that no other point of the same steps of the same trace beats.
pub fn mark(points: &mut [Row]) {
    let metrics = METRICS.map(|name| Metric::parse(name).expect("it is a metric"));
    let traces: Vec<[Value; 3]> = points
        .iter()
        .map(|point| ["trace", "part", configurations::STEPS.name].map(|key| point[key].clone()))
        .collect();
    let mut distinct = traces.clone();
    distinct.sort_by_key(|keys| keys.clone().map(|key| key.to_string()));
    distinct.dedup();
    for trace in distinct {
        let of_trace: Vec<usize> = (0..points.len()).filter(|&index| traces[index] == trace).collect();
        let values = |name: &str| of_trace.iter().map(|&index| points[index][name].as_f64()).collect();
        let on = frontier(&metrics, &METRICS.map(values));
        for (&index, on) in of_trace.iter().zip(on) {
            points[index].insert(PARETO.to_owned(), on.into());
        }
    }
}

/// The configurations that are shown in full: a replay's one; of a sweep those on its frontier, the
/// fastest first, one of those that come to the same, or only the fastest where no errors were computed.
pub fn shown(source: &Source, points: &[Row]) -> Vec<usize> {
    if source.axes.is_none() { (0..points.len()).collect() } else { worth_a_look(points) }
}

fn worth_a_look(points: &[Row]) -> Vec<usize> {
    let cycles = |point: &Row| point[configurations::MERCURY_CYCLES.name].as_u64().unwrap_or(u64::MAX);
    let number = |point: &Row| point[configurations::CONFIGURATION.name].as_u64().unwrap_or(0) as usize;
    let mut sorted: Vec<&Row> = points.iter().collect();
    sorted.sort_by_key(|point| (cycles(point), number(point)));
    let mut on: Vec<&Row> = sorted.iter().copied().filter(|point| point[PARETO] == true).collect();
    // Keys that change nothing make several of the same.
    on.dedup_by(|a, b| METRICS.iter().all(|metric| a[*metric] == b[*metric]));
    let fastest = sorted.into_iter().take(usize::from(on.is_empty()));
    fastest.chain(on).take(MOST_VIEWS).map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn marked(points: &[(&str, Option<f64>, u64)]) -> Vec<Row> {
        let point = |(number, (trace, error, cycles)): (usize, &(&str, Option<f64>, u64))| {
            let json = json!({"configuration": number, "trace": trace, "part": null, "steps": 1, "output_error": error,
                              "mercury_cycles": cycles});
            json.as_object().unwrap().clone()
        };
        let mut points: Vec<Row> = points.iter().enumerate().map(point).collect();
        mark(&mut points);
        points
    }

    #[test]
    fn a_trace_has_a_frontier_of_its_own() {
        let points = marked(&[("a", Some(0.1), 90), ("a", Some(0.2), 100), ("b", Some(0.3), 110), ("b", None, 50)]);
        let on: Vec<bool> = points.iter().map(|point| point["pareto"] == true).collect();
        assert_eq!(on, [true, false, true, false]);
        // Of more steps there are more cycles.
        let mut points = marked(&[("a", Some(0.1), 90), ("a", Some(0.1), 180)]);
        points[1].insert("steps".to_owned(), 2.into());
        mark(&mut points);
        assert!(points.iter().all(|point| point["pareto"] == true));
    }

    #[test]
    fn the_fastest_comes_first_and_of_equals_one() {
        let points = marked(&[
            ("a", Some(0.1), 90),
            ("a", Some(0.3), 70),
            ("a", Some(0.3), 70),
            ("a", Some(0.2), 100),
            ("a", Some(0.2), 80),
        ]);
        assert_eq!(worth_a_look(&points), [1, 4, 0]);
        assert_eq!(worth_a_look(&marked(&[("a", None, 100), ("a", None, 67)])), [1]);
    }
}
