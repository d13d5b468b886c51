//! Times the bounds in nanoseconds per vector, the best of five:
//! `cargo bench -p mercury-reuse --bench bounds`.

#[path = "../tests/common/planes.rs"]
mod planes;

use mercury_reuse::bounds::{CosineOptions, Sampled, exact_duplicates, ideal_cosine, zeros};
use mercury_reuse::config::{Granularity, McacheConfig, Rpq, Scope};
use mercury_reuse::{Layout, Outcomes, Planes, VectorView, signatures};
use mercury_trace::windows::{Axis, Windows};
use planes::make_planes;
use std::time::Instant;

fn main() {
    time_bounds_on_planes();
    time_bounds_on_rows();
}

fn time_bounds_on_planes() {
    for (samples, channels, size, stride, relu) in [
        (1, 64, 224, 1, true),
        (1, 64, 224, 1, false),
        (8, 8, 224, 1, true),
        (4, 64, 112, 2, true),
        (64, 128, 14, 1, true),
    ] {
        let values = make_planes(samples, channels, size, relu);
        let size = size as u32;
        let planes = Planes { values: &values, samples, channels, height: size, width: size };
        let axis = Axis::forward((size - 1) / stride + 1, 3, stride, 1, 1);
        let windows = Windows { y: axis, x: axis };
        let zero = values.iter().filter(|&&x| x == 0.0).count() as f64 / values.len() as f64;
        println!("{samples} x {channels} x {size} x {size}, stride {stride}, {:.0} % zeros, 3 x 3", 100.0 * zero);
        time_bounds(&VectorView::new(planes, windows, 1, Granularity::CHANNEL_PATCH));
        if stride == 2 {
            println!("as patches of all channels");
            time_bounds(&VectorView::new(planes, windows, 1, Granularity::Patch));
        }
    }
}

fn time_bounds_on_rows() {
    let values = make_planes(1, 36, 224, true);
    let rows = 224 * 224 * 36 / 576;
    for granularity in [Granularity::SubVector(9), Granularity::Patch] {
        println!("rows of 576, {granularity}");
        let view = VectorView::from_rows(&values, 1, 1, rows, 576, granularity);
        time_bounds(&view);
        time("ideal cosine, Channel", view.layout(), || {
            ideal_cosine(&view, Scope::Channel, 0.999, &CosineOptions::default()).into_iter().sum::<Sampled>().similar
        });
    }
}

fn time_bounds(view: &VectorView) {
    let layout = view.layout();
    let signatures = signatures(view, &Rpq::default());
    let unlimited = McacheConfig { entries: 0, ..McacheConfig::default() };
    time("zeros", layout, || zeros(view).iter().map(|run| run.zero_vectors).sum());
    for scope in [Scope::Channel, Scope::Batch] {
        time(&format!("duplicates, {scope:?}"), layout, || exact_duplicates(view, scope).iter().sum());
        time(&format!("unlimited MCACHE, 20 bits, {scope:?}"), layout, || {
            let outcomes = Outcomes::look_up(layout, &signatures, &unlimited, scope);
            outcomes.counts().iter().map(|counts| counts.hit).sum()
        });
    }
}

/// Prints the nanoseconds per vector of the fastest of five runs.
fn time(name: &str, layout: Layout, run: impl Fn() -> u64) {
    let (mut best, mut result) = (f64::INFINITY, 0);
    for _ in 0..5 {
        let start = Instant::now();
        result = run();
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / layout.vectors() as f64);
    }
    println!("  {name}: {best:.2} ns per vector ({result} of {})", layout.vectors());
}
