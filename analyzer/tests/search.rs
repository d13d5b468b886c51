//! Searches for designs from the command line.

mod common;

use common::place::{Place, files, plain_files};
use mercury_analyzer::schema::layers as columns;
use mercury_analyzer::table;
use mercury_trace::manifest::Sampling;
use polars::prelude::DataFrame;
use std::collections::BTreeMap;
use std::fs;

/// All samples of the batch.
const ALL: [u32; 8] = [0, 1, 2, 3, 4, 5, 6, 7];
/// A small search: 2 variants of 3 lengths, errors without sampling.
const SMALL: &str = "--per-layer rpq.bits=3,6,20 --per-layer rpq.variant=sign,sign+rescale --errors all";
const BOUND: &str = "--bound layer-error<=0.4";
/// A reading under which reuse pays even in layers as small as these.
const CHEAP: &str = "--rpq.unit free --array.hit_cycles 0";

fn place() -> Place {
    Place::with_steps(&[0, 5, 10], &ALL[..4])
}

fn rows(json: &str) -> Vec<serde_json::Value> {
    serde_json::from_str(json).unwrap()
}

/// The rows of `layers.parquet` of a configuration, without its number.
fn layer_rows(place: &Place, dir: &str, configuration: u64) -> Vec<String> {
    let frame = table::read(&place.path(&format!("{dir}/layers.parquet"))).unwrap();
    let numbers = columns::CONFIGURATION.read_u64s(&frame).unwrap();
    let kept = (0..frame.height()).filter(|&row| numbers[row] == Some(configuration));
    kept.map(|row| format!("{:?}", &frame.get(row).unwrap()[1..])).collect()
}

#[test]
fn a_replay_of_the_design_gives_what_was_promised() {
    let place = place();
    place.stdout(&format!("search trace --out found {SMALL} {BOUND}"));
    for (number, reading) in ["mercury", "mercury-skip", "mercury-ahead", "bound"].into_iter().enumerate() {
        let design = format!("found/best-{reading}.toml");
        place.stdout(&format!("replay trace --config {design} --errors all --out replay-{reading}"));
        let promised = layer_rows(&place, "found", 3 * number as u64 + 2);
        let replayed = layer_rows(&place, &format!("replay-{reading}"), 0);
        assert!(promised.len() > 20);
        assert_eq!(promised, replayed, "{reading}");
        let text = fs::read_to_string(place.path(&design)).unwrap();
        let json = rows(
            &place.stdout(&format!("replay trace --config {design} --errors all --out again-{reading} --format json")),
        );
        let cycles: u64 = json.iter().map(|row| row["mercury_cycles"].as_u64().unwrap()).sum();
        assert!(text.contains(&format!("takes {cycles} cycles instead of")), "{text}");
    }
    // The layers of another model are refused.
    let design = fs::read_to_string(place.path("found/best.toml")).unwrap();
    fs::write(place.path("other.toml"), design.replace("model = \"small\"", "model = \"large\"")).unwrap();
    let error = place.error("replay trace --config other.toml --out other");
    assert!(error.contains("the configuration is for large, but the model is small"), "{error}");
}

/// What a setting does to the passes of a layer that share signatures.
#[derive(Default)]
struct Sums {
    /// Cycles without and with reuse.
    cycles: [u64; 2],
    /// Squared change and exact square of each pass.
    squares: BTreeMap<String, [f64; 2]>,
}

/// The sums over steps, by configuration, layer, and whether it is the input gradient.
fn sum_settings(frame: &DataFrame) -> BTreeMap<(u64, u64, bool), Sums> {
    let numbers = columns::CONFIGURATION.read_u64s(frame).unwrap();
    let layers = columns::LAYER_INDEX.read_u64s(frame).unwrap();
    let passes = columns::PASS.read_texts(frame).unwrap();
    let cycles = [columns::BASELINE_CYCLES, columns::MERCURY_CYCLES].map(|column| column.read_u64s(frame).unwrap());
    let squares = [columns::ERROR_SQUARE, columns::EXACT_SQUARE].map(|column| column.read_f64s(frame).unwrap());
    let mut settings: BTreeMap<(u64, u64, bool), Sums> = BTreeMap::new();
    for row in 0..frame.height() {
        let pass = passes[row].clone().unwrap();
        let sums = settings.entry((numbers[row].unwrap(), layers[row].unwrap(), pass == "input-grad")).or_default();
        let own = sums.squares.entry(pass).or_default();
        for side in 0..2 {
            sums.cycles[side] += cycles[side][row].unwrap();
            own[side] += squares[side][row].unwrap_or(0.0);
        }
    }
    settings
}

/// A search finds what trying each setting on each layer alone finds.
#[test]
fn the_design_has_the_fastest_setting_of_each_layer_within_the_bound() {
    let place = place();
    place.stdout(&format!("search trace --out found --preset mercury-skip {SMALL} {BOUND} --folds 0"));
    place.stdout(
        "sweep trace --out sweep --preset mercury-skip --set rpq.bits=3,6,20 --set rpq.variant=sign,sign+rescale \
         --set reuse.passes=[\"forward\",\"input-grad\",\"weight-grad\"],[\"forward\",\"input-grad\"] \
         --stop.window 0 --bits.patience 0 --errors all --format csv",
    );
    let read = |dir: &str| table::read(&place.path(&format!("{dir}/layers.parquet"))).unwrap();
    let mut least: BTreeMap<(u64, bool), u64> = BTreeMap::new();
    for ((_, layer, is_input_grad), Sums { cycles: [baseline, cycles], squares }) in sum_settings(&read("sweep")) {
        let best = least.entry((layer, is_input_grad)).or_insert(baseline);
        if squares.values().all(|[change, exact]| *change <= 0.4f64.powi(2) * exact) {
            *best = cycles.min(*best);
        }
    }
    let found = sum_settings(&read("found"));
    let design = found.iter().filter(|((number, ..), _)| *number == 2);
    assert_eq!(design.map(|(_, sums)| sums.cycles[1]).sum::<u64>(), least.values().sum::<u64>());
}

#[test]
fn a_search_writes_the_same_bytes_with_any_threads_however_interrupted_or_partitioned() {
    let place = place();
    let search = format!("search trace {SMALL} {BOUND} --preset mercury-ahead --seeds 2");
    place.stdout(&format!("{search} --out whole --threads 1"));
    place.stdout(&format!("{search} --out parallel --threads 4"));
    assert_eq!(plain_files(&place.path("whole")), plain_files(&place.path("parallel")));
    // A search that was stopped early: its identity and some layers.
    fs::create_dir_all(place.path("stopped/parts")).unwrap();
    fs::copy(place.path("whole/search.json"), place.path("stopped/search.json")).unwrap();
    for (number, (name, bytes)) in files(&place.path("whole/parts")).into_iter().enumerate() {
        let kept = if number % 3 == 0 { &bytes[..] } else { &bytes[..bytes.len() / 2] };
        fs::write(place.path(&format!("stopped/parts/{name}")), kept).unwrap();
    }
    place.stdout(&format!("{search} --out stopped"));
    assert_eq!(plain_files(&place.path("whole")), plain_files(&place.path("stopped")));
    for number in 1..=3 {
        place.stdout(&format!("{search} --out shares/{number} --partition {number}/3"));
    }
    place.stdout(&format!("{search} --out merged --parts shares"));
    assert_eq!(plain_files(&place.path("whole")), plain_files(&place.path("merged")));
    let error = place.error(&format!("{search} --out fewer --parts shares/1,shares/3"));
    assert!(error.contains("partition 2/3 is missing"), "{error}");
    let error = place.error(&format!("search trace {SMALL} {BOUND} --out other --parts shares"));
    assert!(error.contains("--parts: are of another search"), "{error}");
}

/// Other bounds and objectives need no replay: the tensors may be gone.
#[test]
fn other_bounds_are_answered_from_what_is_there() {
    let place = place();
    let search = format!("search trace --out found {SMALL} --preset mercury-skip");
    let loose = place.stdout(&format!("{search} --bound layer-error<=0.4"));
    fs::remove_dir_all(place.path("trace/tensors")).unwrap();
    let tight = place.stdout(&format!("{search} --bound layer-error<=0.05"));
    assert_ne!(loose, tight);
    for more in [
        "--bound step-error=20%",
        "--bound layer-error<=0.3 --bound gradient-error<=0.2",
        "--objective edp",
        "--objective energy --bound layer-error<=0.4 --bound loss-change<=0.5",
        "--objective cycles-with-stalls",
    ] {
        place.stdout(&format!("{search} {more}"));
    }
    assert_eq!(place.stdout(&format!("{search} --bound layer-error<=0.4")), loose);
}

/// A design of chosen passes leaves the others exact, and its files are as they were written.
#[test]
fn a_design_of_the_forward_pass_leaves_gradients_exact() {
    let place = place();
    place.stdout(&format!("search trace --out found {SMALL} {CHEAP} --bound layer-error<=0.9 --passes forward"));
    let design = fs::read_to_string(place.path("found/best.toml")).unwrap();
    let tables: Vec<&str> = design.split("[[layer]]").skip(1).collect();
    assert!(tables.len() > 1 && tables.iter().all(|table| !table.contains("weight-grad")), "{design}");
    place.stdout("replay trace --config found/best.toml --errors all --out replayed --passes forward");
    assert_eq!(layer_rows(&place, "found", 2), layer_rows(&place, "replayed", 0));
    assert!(place.stdout("verify found").contains("as they were written"));
    fs::write(place.path("found/best.toml"), "").unwrap();
    assert!(String::from_utf8_lossy(&place.run("verify found").stderr).contains("best.toml"));
}

/// One step is judged by folds of its samples, each of which is what a trace of these samples alone gives.
#[test]
fn samples_of_one_step_judge_each_other() {
    let place = Place::with_steps(&[0], &ALL);
    let search = format!("{SMALL} {BOUND} --preset mercury-skip");
    let text = place.stdout(&format!("search trace --out found {search}"));
    assert!(text.contains("without the captured samples that judge them (2 folds)"), "{text}");
    common::write_steps(&place.path("half"), &Sampling::default(), &[0], &ALL[..4], common::value);
    place.stdout(&format!("search half --out of-half {search} --folds 0"));
    let parts = |dir: &str| -> Vec<String> {
        let read = |(_, bytes): (String, Vec<u8>)| {
            let text = String::from_utf8(bytes).unwrap();
            text.split_once("\"results\":").unwrap().1.to_owned()
        };
        files(&place.path(dir)).into_iter().map(read).collect()
    };
    // The attention product's weights are told by the sample.
    assert_eq!(parts("found/samples-0-4"), parts("of-half/parts"));
    assert_ne!(parts("found/samples-4-8"), parts("of-half/parts"));
}

#[test]
fn what_cannot_be_searched_is_refused() {
    let place = place();
    let error = |more: &str| place.error(&format!("search trace --out refused {more}"));
    fs::write(place.path("own.toml"), "[[layer]]\nname = \"features.*\"\nrpq.bits = 9\n").unwrap();
    for (flags, part) in [
        ("--per-layer mcache.entries=4,8", "mcache.entries is shared by all layers; give it to --shared"),
        ("--per-layer rpq.bits=4 --shared rpq.bits=5", "is given to --shared, too"),
        ("--shared stop.window=0,2", "stop.window cannot be set"),
        ("--stop.window 3", "stop.window cannot be set"),
        ("--errors none", "needs errors, which --errors none leaves out"),
        ("--bound layer-error<=0.1 --bound layer-error<=0.2", "is given twice"),
        ("--bound layer-error<=0.1 --bound gradient-error<=0.1 --passes forward", "which no setting reuses"),
        ("--bound step-error<=0.1 --bound loss-change<=0.1 --layers features.0", "--layers leaves some out"),
        ("--bound gradient-error<=0.1", "does not limit all passes; add layer-error or step-error"),
        ("--bound layer-error<=1e-9 --per-layer rpq.bits=1 --layers features.0", "no design meets it; the nearest is"),
        ("--bound error<=0.1", "is not one of layer-error, step-error"),
        ("--bound accuracy-loss<=0.01", "--bound: accuracy-loss <= 0.01: the calibration resolves losses of"),
        ("--accuracy-curve missing.csv", "--accuracy-curve: missing.csv: No such file"),
        ("--accuracy-curve own.toml", "own.toml: line 1, header: is \"[[layer]]\"; the columns must be step_error"),
        ("--folds 4", "is 4, but there are 3 steps"),
        ("--folds 1", "give 2 or more"),
        ("--steps 5", "one step of 4 samples is too little"),
        ("--partition 1/2 --steps 0 --folds 0 --parts shares", "cannot be used with"),
    ] {
        let found = error(flags);
        assert!(found.contains(part), "{flags}: {found}");
    }
    let left: Vec<_> = fs::read_dir(place.path("refused")).map_or(Vec::new(), Iterator::collect);
    let names: Vec<_> = left.iter().map(|entry| entry.as_ref().unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name == "run.json" || name == "best.toml"), "{names:?}");
    assert!(error("--config own.toml").contains("has [[layer]] tables"), "tables of its own");
    let few = Place::new();
    let found = few.error("search trace --out refused");
    assert!(found.contains("a fold has 3 samples, but takes 4 at least"), "{found}");
}

/// A curve under which a loss of 1 point is a step error of 20 %, in a file of the place.
fn write_curve(place: &Place) {
    let curve = "# networks: three of a test\nstep_error,accuracy_loss,upper\n0,0,0.25\n0.2,0.5,1\n0.6,3,5\n";
    fs::write(place.path("curve.csv"), curve).unwrap();
}

/// The losses that this curve predicts, by the equations of its two lines.
fn predict(step_error: f64) -> Option<[f64; 2]> {
    match step_error {
        0.0..=0.2 => Some([2.5 * step_error, 0.25 + 3.75 * step_error]),
        0.2..=0.6 => Some([6.25 * step_error - 0.75, 10.0 * step_error - 1.0]),
        _ => None,
    }
}

/// The record of a search in its run.json.
fn read_record(place: &Place, dir: &str) -> serde_json::Value {
    let run: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(place.path(&format!("{dir}/run.json"))).unwrap()).unwrap();
    run["search"].clone()
}

fn read_design(place: &Place, dir: &str) -> String {
    let text = fs::read_to_string(place.path(&format!("{dir}/best.toml"))).unwrap();
    text.split_once("\n\n").unwrap().1.to_owned()
}

#[test]
fn a_bound_on_the_accuracy_loss_is_one_on_the_step_error() {
    let place = place();
    write_curve(&place);
    let search = format!("search trace --out found {SMALL} {CHEAP} --accuracy-curve curve.csv");
    for others in ["", "--bound layer-error<=0.35"] {
        place.stdout(&format!("{search} {others} --bound step-error<=0.2"));
        let expected = read_design(&place, "found");
        insta::assert_snapshot!(
            if others.is_empty() { "search_accuracy" } else { "search_accuracy_and_layers" },
            place.stdout(&format!("{search} {others} --bound accuracy-loss<=1"))
        );
        assert_eq!(read_design(&place, "found"), expected);
    }
    let json = rows(&place.stdout(&format!("{search} --bound accuracy-loss<=1% --format json")));
    let mut known = 0;
    for row in &json {
        let loss = predict(row["step_error"].as_f64().unwrap());
        for (place, name) in ["accuracy_loss", "accuracy_loss_upper"].into_iter().enumerate() {
            let expected = loss.map(|loss| loss[place]);
            let found = row[name].as_f64();
            let is_equal = found.zip(expected).map_or(found == expected, |(a, b)| (a - b).abs() < 1e-9);
            assert!(is_equal, "{name} is {found:?} instead of {expected:?}: {row}");
        }
        if row["method"] != "configured" {
            assert_eq!((&row["bound"], &row["bound_value"]), (&"accuracy-loss".into(), &row["accuracy_loss_upper"]));
        }
        known += usize::from(loss.is_some());
    }
    assert!(known > 0 && known < json.len(), "{known} of {}", json.len());
    let limits: Vec<f64> = json.iter().filter_map(|row| row["limit"].as_f64()).step_by(2).collect();
    assert_eq!(limits, [0.5, 1.0, 2.0, 3.0, 5.0]);
}

/// The meaning of a bound stays with the results, and a new meaning is told.
#[test]
fn another_accuracy_curve_is_not_silently_another_bound() {
    let place = place();
    write_curve(&place);
    let search = format!("search trace --out found {SMALL} {CHEAP} --bound accuracy-loss<=1");
    let stderr = |more: &str| {
        let output = place.run(&format!("{search} {more}"));
        assert!(output.status.success(), "{more}");
        String::from_utf8(output.stderr).unwrap()
    };
    let first = stderr("--accuracy-curve curve.csv");
    assert!(first.contains("a calibration on few networks (three of a test)"), "{first}");
    let curve = &read_record(&place, "found")["accuracy_curve"];
    assert_eq!((curve["allowed_step_error"].as_f64(), curve["last_step_error"].as_f64()), (Some(0.2), Some(0.6)));
    assert!(!stderr("--accuracy-curve curve.csv").contains("another accuracy curve"));
    let text = fs::read_to_string(place.path("curve.csv")).unwrap();
    fs::write(place.path("curve.csv"), text.replace("0.2,0.5,1", "0.1,0.5,1")).unwrap();
    let changed = stderr("--accuracy-curve curve.csv");
    let part = "its bound was step-error <= 0.2000, that of accuracy-loss <= 1 is now step-error <= 0.1000";
    assert!(changed.contains(part), "{changed}");
    assert_eq!(read_record(&place, "found")["accuracy_curve"]["allowed_step_error"].as_f64(), Some(0.1));
}

#[test]
fn losses_beyond_the_calibration_are_never_extrapolated() {
    let place = place();
    write_curve(&place);
    let search = format!("search trace --out found {SMALL} {CHEAP} --accuracy-curve curve.csv");
    let output = place.run(&format!("{search} --bound accuracy-loss<=50"));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let part = "the calibration ends at a step error of 0.6; larger errors are not known to be accepted";
    assert!(output.status.success() && stderr.contains(part), "{stderr}");
    assert_eq!(read_record(&place, "found")["accuracy_curve"]["allowed_step_error"].as_f64(), Some(0.6));
    let design = read_design(&place, "found");
    place.stdout(&format!("{search} --bound step-error<=0.6"));
    assert_eq!(read_design(&place, "found"), design);
}

#[test]
fn the_best_row_of_a_sweep_within_a_condition() {
    let place = place();
    let sweep = "sweep trace --set rpq.bits=3,6,20 --out sweep --stop.window 0 --format json";
    let all = rows(&place.stdout(sweep));
    let kept = rows(&place.stdout(&format!("{sweep} --where output_error<=0.5 --best speed_up")));
    let number = |row: &serde_json::Value, name: &str| row[name].as_f64().unwrap();
    let within = all.iter().filter(|row| number(row, "output_error") <= 0.5);
    let best = within.max_by(|a, b| number(a, "speed_up").total_cmp(&number(b, "speed_up"))).unwrap();
    assert_eq!((kept.len(), &kept[0]), (1, best));
    let error = place.error(&format!("{sweep} --where output_error<=0.000001"));
    assert!(error.contains("no row meets output_error <= 0.000001; the nearest has"), "{error}");
    assert!(place.error(&format!("{sweep} --where eror<=1")).contains("is no column of a sweep"));
}
