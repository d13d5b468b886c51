//! The report from the command line: contents of the file, and errors. `tests/browser` tests the
//! page.

mod common;

use common::place::Place;
use mercury_analyzer::table;
use mercury_trace::atomic::Unsynced;
use polars::prelude::*;
use std::fs;
use std::path::Path;

/// A place with results, a sweep, and the report of both.
fn write_report() -> Place {
    let place = Place::new();
    place.stdout("replay trace --out results --rpq.bits 6 --errors all --with bounds");
    place.stdout("sweep trace --out sweep --set rpq.bits=3,6 --set mcache.ways=4,16 --mcache.entries 32");
    place.stdout("report results sweep --trace trace --out report.html");
    place
}

/// The JSON in an element of the page.
fn parse_element(page: &str, id: &str) -> serde_json::Value {
    let (_, rest) = page.split_once(&format!(r#"<script type="application/json" id="{id}">"#)).unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

fn read_page(place: &Place, name: &str) -> String {
    fs::read_to_string(place.path(name)).unwrap()
}

/// Changes a table, as if a version without checksums had written it.
fn change(path: &Path, change: impl FnOnce(DataFrame) -> DataFrame) {
    remove_checksums(path.parent().unwrap());
    let frame = change(table::read(path).unwrap());
    table::write(&mut Unsynced::default(), path.to_owned(), &frame).unwrap();
}

/// The table with a column added, or replaced if it has one of the same name.
fn with_column(mut frame: DataFrame, column: Column) -> DataFrame {
    frame.with_column(column).unwrap();
    frame
}

fn remove_checksums(dir: &Path) {
    let path = dir.join("SHA256SUMS");
    if path.exists() {
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn the_page_contains_the_results() {
    let place = write_report();
    let data = parse_element(&read_page(&place, "report.html"), "data");
    let view = &data["views"][0];
    let again = "replay trace --out again --rpq.bits 6 --errors all --with bounds --format json";
    let rows: Vec<serde_json::Value> = serde_json::from_str(&place.stdout(again)).unwrap();
    for row in view["layers"].as_array().unwrap() {
        let same = |other: &&serde_json::Value| other["layer"] == row["layer"] && other["pass"] == row["pass"];
        let saved: i64 = rows.iter().filter(same).filter_map(|other| other["macs_saved_net"].as_i64()).sum();
        assert_eq!(row["macs_saved_net"].as_i64(), Some(saved), "{row}");
        assert_eq!(row["is_bound"], false);
        for name in ["vectors", "hit", "macs_skipped", "baseline_cycles", "mercury_cycles", "unlimited_hit"] {
            let sum: u64 = rows.iter().filter(same).filter_map(|other| other[name].as_u64()).sum();
            assert_eq!(row[name].as_u64().unwrap_or(0), sum, "{name} of {row}");
        }
    }
    let command = "mercury-analyzer replay TRACE --out RESULTS --rpq.bits 6 --errors all --with bounds";
    assert_eq!(view["command"], command);
    assert_eq!(view["title"], "small on formula");
    let [speed, low, high] = ["speed_up", "speed_up_low", "speed_up_high"].map(|name| view["summary"][name].as_f64());
    assert!(low < speed && speed < high, "{low:?} {speed:?} {high:?}");
    assert_eq!(view["summary"]["is_bound"], false);
    assert_eq!(view["summary"]["speed_up_equal_macs"].as_f64(), speed);
    assert!(view["summary"]["mcache_kb"].as_f64() > Some(0.0));
    assert_eq!(view["models"].as_array().unwrap().len(), 2);
    assert_eq!(view["models"][1]["signature_bits"], 6);
    assert_eq!(data["losses"].as_object().unwrap().values().next().unwrap().as_array().unwrap().len(), 11);
    assert_eq!(data["configurations"].as_array().unwrap().len(), 5);
    assert_eq!(view["name"], "mcache.entries 1024");
    // Of the sweep, the page shows the frontier.
    let names: Vec<&str> =
        data["views"].as_array().unwrap().iter().map(|view| view["name"].as_str().unwrap()).collect();
    assert!(
        names.len() > 1 && names[1..].iter().all(|name| name.starts_with("mcache.entries 32: rpq.bits ")),
        "{names:?}"
    );
    let frontier = data["configurations"].as_array().unwrap().iter().filter(|row| row["pareto"] == true);
    assert!(frontier.count() >= 1);
}

#[test]
fn a_bound_is_marked() {
    let place = Place::new();
    place.stdout("replay trace --out bound --array.hit_cycles 0 --stop.window 0");
    place.stdout("report bound --out bound.html");
    let data = parse_element(&read_page(&place, "bound.html"), "data");
    let view = &data["views"][0];
    assert_eq!(view["summary"]["is_bound"], true);
    assert!(view["layers"].as_array().unwrap().iter().any(|row| row["is_bound"] == true));
}

/// Options of a search that is small, but has several settings.
const SMALL: &str = "--per-layer rpq.bits=3,8 --bound layer-error<=0.5 --errors all";

#[test]
fn a_search_is_shown_by_its_verdict_and_two_designs() {
    let place = Place::with_steps(&[0, 10], &[1, 2, 5, 6]);
    place.stdout(&format!("search trace --out search {SMALL}"));
    place.stdout("replay trace --config search/best.toml --out design");
    place.stdout("report design search --out search.html");
    let data = parse_element(&read_page(&place, "search.html"), "data");
    let record: serde_json::Value = serde_json::from_str(&read_page(&place, "search/run.json")).unwrap();
    let record = &record["search"];
    let best = &record["readings"][record["best"].as_u64().unwrap() as usize];
    let search = &data["searches"][0];
    assert_eq!((&search["judged_by"], &search["folds"]), (&"steps".into(), &2.into()));
    assert_eq!((&search["bound"], search["limit"].as_f64()), (&"layer-error".into(), Some(0.5)));
    let readings = search["readings"].as_array().unwrap();
    let bound = readings.iter().find(|reading| reading["is_bound"] == true).unwrap();
    assert!(readings.len() == 4 && readings[0]["name"] == best["name"] && bound["name"] == "bound", "{readings:?}");
    let shown = ["configured", "one_setting", "per_layer"];
    for (name, method) in shown.iter().zip(best["methods"].as_array().unwrap()) {
        for key in ["speed_up", "output_error", "largest_error", "exceeding", "passes"] {
            assert_eq!(readings[0][name][key].as_f64(), method[key].as_f64(), "{key} of {name}");
        }
    }
    // The page predicts nothing itself: a later curve does not change what a search said.
    assert_eq!(search["networks"], record["accuracy_curve"]["networks"]);
    let frontier = table::read(&place.path("search/frontier.parquet")).unwrap();
    let losses = frontier.column("accuracy_loss_upper").unwrap().f64().unwrap();
    let shown = search["frontier"].as_array().unwrap().iter().map(|row| row["accuracy_loss_upper"].as_f64());
    assert!(shown.eq(losses.iter()) && losses.null_count() < losses.len(), "{losses:?}");
    assert_eq!(search["choices"].as_array().unwrap().len(), 11);
    assert!(search["choices"].as_array().unwrap().iter().all(|row| row["reading"] == best["name"]));

    // Of the search's configurations, two are shown in full, and all are points of charts.
    let views = data["views"].as_array().unwrap();
    let names: Vec<String> = views.iter().map(|view| view["name"].as_str().unwrap().to_owned()).collect();
    let reading = best["name"].as_str().unwrap();
    assert!(names[1].ends_with(&format!(": {reading}, per layer")), "{names:?}");
    assert!(names[2].ends_with(&format!(": {reading}, configured")), "{names:?}");
    assert_eq!((names.len(), &views[0]["search"], &views[1]["search"]), (3, &().into(), &0.into()));
    assert_eq!(data["configurations"].as_array().unwrap().len(), 13);

    // Flags cannot give settings per layer: commands name the file.
    let file = format!("search/{}", best["file"].as_str().unwrap());
    assert_eq!(search["design"], file.as_str());
    let command = views[1]["command"].as_str().unwrap();
    assert_eq!(command, format!("mercury-analyzer replay TRACE --out RESULTS --config {file} --errors all"));
    assert!(views[1]["probe"].as_str().unwrap().ends_with(&format!("--probe {file}")));
    assert_eq!(views[0]["command"], "mercury-analyzer replay TRACE --out RESULTS --config CONFIG.toml");
    let facts = views[1]["facts"].as_array().unwrap();
    let signatures = facts.iter().find(|fact| fact[0] == "Signatures").unwrap();
    assert!(signatures[1].as_str().unwrap().starts_with("per layer: "), "{signatures}");
    assert_eq!(views[0]["layer_settings"].as_array().unwrap().len(), 7);
}

#[test]
fn damaged_searches_are_refused_by_file_field_and_remedy() {
    let place = Place::with_steps(&[0, 10], &[1, 2, 5, 6]);
    place.stdout(&format!("search trace --out search {SMALL} --folds 0"));
    let messages = |name: &str| insta::assert_snapshot!(name, place.error("report search --out search.html"));
    let run = place.path("search/run.json");
    let text = fs::read_to_string(&run).unwrap();
    let mut edited: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut edit = |path: &str, value: serde_json::Value| {
        let before = std::mem::replace(edited.pointer_mut(path).unwrap(), value);
        fs::write(&run, edited.to_string()).unwrap();
        *edited.pointer_mut(path).unwrap() = before;
    };
    remove_checksums(&place.path("search"));
    edit("/search/best", 4.into());
    messages("report_search_best");
    edit("/search/readings/1/configurations", serde_json::json!([3, 4, 12]));
    messages("report_search_configurations");
    edit("/search/bounds", serde_json::json!(["every-error <= 1"]));
    messages("report_search_bounds");
    edit("/search/readings", "none".into());
    messages("report_search_readings");
    fs::write(&run, text).unwrap();
    let frontier = place.path("search/frontier.parquet");
    let whole = table::read(&frontier).unwrap();
    change(&frontier, |frame| frame.slice(1, frame.height() - 1));
    messages("report_search_missing_row");
    change(&frontier, |_| whole.drop("exceeding").unwrap());
    messages("report_search_missing_column");
    fs::remove_file(place.path("search/choices.parquet")).unwrap();
    change(&frontier, |_| whole);
    messages("report_search_missing_table");
    fs::remove_file(&run).unwrap();
    messages("report_search_not_ended");
}

/// The speed-up of some layers or steps must not be taken for that of the model.
#[test]
fn a_part_of_a_trace_is_marked() {
    let place = Place::new();
    place.stdout("replay trace --out part --layers features.* --steps 10");
    place.stdout("report part --out part.html");
    let data = parse_element(&read_page(&place, "part.html"), "data");
    assert_eq!(data["views"][0]["part"], "--layers 'features.*' --steps '10..=10'");
}

#[test]
fn equal_results_give_equal_bytes_and_nothing_is_fetched() {
    let place = write_report();
    place.stdout("report results sweep --trace trace --out again.html");
    let page = read_page(&place, "report.html");
    assert!(page == fs::read_to_string(place.path("again.html")).unwrap());
    assert!(page.contains("default-src 'none'"));
    for fetching in ["src=\"", "href=\"http", "@import", "url("] {
        assert!(!page.split_once("<script>").unwrap().0.contains(fetching), "{fetching}");
    }
}

#[test]
fn names_do_not_close_their_element() {
    let place = write_report();
    let nasty = "</script><script>alert(1)</script><!--'\"\\&\u{2028}";
    change(&place.path("results/layers.parquet"), |frame| {
        let indices = frame.column("layer_index").unwrap().u64().unwrap();
        let names = frame.column("layer").unwrap().str().unwrap();
        let pairs = indices.iter().zip(names.iter());
        let renamed: Vec<Option<&str>> =
            pairs.map(|(index, name)| if index == Some(0) { Some(nasty) } else { name }).collect();
        let renamed = Column::new("layer".into(), renamed);
        with_column(frame, renamed)
    });
    place.stdout("report results --out nasty.html");
    let page = read_page(&place, "nasty.html");
    assert!(!page.contains("<script>alert"));
    assert_eq!(parse_element(&page, "data")["views"][0]["layers"][0]["layer"], nasty);
}

#[test]
fn columns_of_later_versions_are_ignored() {
    let place = write_report();
    for name in ["layers", "models", "configurations"] {
        change(&place.path(&format!("results/{name}.parquet")), |frame| {
            let later = Column::new("measured_later".into(), vec![1.5; frame.height()]);
            with_column(frame, later)
        });
    }
    place.stdout("report results --out more.html");
    let data = parse_element(&read_page(&place, "more.html"), "data");
    assert_eq!(data["views"][0]["layers"].as_array().unwrap().len(), 11);
}

#[test]
fn invalid_results_are_refused_and_leave_no_files() {
    let place = write_report();
    let before = fs::read(place.path("report.html")).unwrap();
    let messages = |name: &str, arguments: &str| {
        insta::with_settings!({ filters => vec![("[0-9a-f]{64}", "[sum]")] }, {
            insta::assert_snapshot!(name, place.error(arguments));
        });
    };
    messages("report_no_folder", "report nowhere --out report.html");
    messages("report_a_trace", "report trace --out report.html");
    messages("report_a_file", "report report.html --out report.html");
    messages("report_no_results", "report . --out report.html");
    messages("report_out_is_a_folder", "report results --out results");
    messages("report_out_has_no_folder", "report results --out nowhere/report.html");
    fs::create_dir(place.path("begun")).unwrap();
    fs::copy(place.path("sweep/sweep.json"), place.path("begun/sweep.json")).unwrap();
    messages("report_sweep_not_ended", "report begun --out report.html");
    place.stdout("replay trace --out other --rpq.bits 6");
    let edit = |from: &str, to: &str| {
        let path = place.path("other/run.json");
        let text = fs::read_to_string(&path).unwrap().replacen(from, to, 1);
        fs::write(path, text).unwrap();
    };
    edit("manifest_sha256\": \"", "manifest_sha256\": \"00");
    messages("report_changed_file", "report other --trace trace --out report.html");
    remove_checksums(&place.path("other"));
    messages("report_of_another_trace", "report other --trace trace --out report.html");
    edit("\"columns\": 14", "\"columns\": \"many\"");
    messages("report_wrong_setting", "report other --out report.html");
    edit("\"bounds\": false", "\"bounds\": 7");
    messages("report_wrong_run", "report other --out report.html");
    edit("\"schema_version\": 1", "\"schema_version\": 9");
    messages("report_wrong_version", "report other --out report.html");
    fs::write(place.path("other/run.json"), "{").unwrap();
    messages("report_no_json", "report other --out report.html");
    let layers = place.path("results/layers.parquet");
    change(&layers, |frame| {
        let text = Column::new("hit".into(), vec!["many"; frame.height()]);
        with_column(frame, text)
    });
    messages("report_wrong_column", "report results --out report.html");
    change(&layers, |frame| frame.drop("hit").unwrap());
    messages("report_missing_column", "report results --out report.html");
    fs::write(&layers, "no table").unwrap();
    messages("report_no_table", "report results --out report.html");
    fs::remove_file(&layers).unwrap();
    messages("report_missing_table", "report results --out report.html");

    assert_eq!(fs::read(place.path("report.html")).unwrap(), before, "the old page was changed");
    let left = fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(left.filter(|name| name.ends_with(".partial")).count() == 0);
}
