//! Times the bounds and the counts for many caches at once, in nanoseconds per vector, the best of
//! five: `cargo bench -p mercury-reuse --bench bounds`.

#[path = "../tests/common/planes.rs"]
mod planes;

use mercury_reuse::bounds::{CosineOptions, Sampled, exact_duplicates, ideal_cosine, zeros};
use mercury_reuse::config::{Granularity, McacheConfig, Rpq, Scope, SetIndex};
use mercury_reuse::{Counts, Hitmap, Layout, Planes, VectorView, counts_grid, signatures, unlimited_hits};
use mercury_trace::windows::{Axis, Windows};
use planes::make_planes;
use std::time::Instant;

fn main() {
    time_bounds_on_planes();
    time_bounds_on_rows();
    time_counts_for_many_caches();
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
        time_bounds(&VectorView::new(planes, windows, 1, Granularity::ChannelPatch));
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
        let view = VectorView::of_rows(&values, 1, 1, rows, 576, granularity);
        time_bounds(&view);
        time("ideal cosine, Channel", view.layout(), || {
            ideal_cosine(&view, Scope::Channel, 0.999, &CosineOptions::default()).into_iter().sum::<Sampled>().similar
        });
    }
}

fn time_bounds(view: &VectorView) {
    let layout = view.layout();
    let all = signatures(view, &Rpq { bits: 64, ..Rpq::default() });
    time("zeros", layout, || zeros(view).iter().map(|run| run.zero_vectors).sum());
    for scope in [Scope::Channel, Scope::Batch] {
        time(&format!("duplicates, {scope:?}"), layout, || exact_duplicates(view, scope).iter().sum());
        time(&format!("unlimited hits at 20 bits, {scope:?}"), layout, || {
            unlimited_hits(layout, &all, 20, scope).iter().sum()
        });
    }
}

/// Times one walk for all lengths and caches, and one cache pass for each.
fn time_counts_for_many_caches() {
    let bits = [8, 12, 16, 20, 24, 32, 48, 64];
    let caches = [(256, 16), (1024, 1), (1024, 4), (1024, 16), (4096, 16), (16384, 16)];
    let values = make_planes(16, 64, 32, true);
    let planes = Planes { values: &values, samples: 16, channels: 64, height: 32, width: 32 };
    let axis = Axis::forward(32, 3, 1, 1, 1);
    let view = VectorView::new(planes, Windows { y: axis, x: axis }, 1, Granularity::ChannelPatch);
    let layout = view.layout();
    let all = signatures(&view, &Rpq { bits: 64, ..Rpq::default() });
    for scope in [Scope::Channel, Scope::Sample, Scope::Batch] {
        println!("{} lengths, {} caches, {scope:?}", bits.len(), caches.len());
        let hits = |counts: &[Vec<Counts>]| counts.iter().flatten().map(|run| run.hit).sum();
        let in_one_walk =
            time("one walk", layout, || hits(&counts_grid(layout, &all, &bits, &caches, SetIndex::Mixed, scope)));
        let one_by_one = time("a pass each", layout, || hits(&count_one_by_one(layout, &all, &bits, &caches, scope)));
        println!("  ratio {:.1}", one_by_one / in_one_walk);
    }
}

fn count_one_by_one(
    layout: Layout,
    signatures: &[u64],
    bits: &[u32],
    caches: &[(u32, u32)],
    scope: Scope,
) -> Vec<Vec<Counts>> {
    let mut counts = Vec::new();
    for &bits in bits {
        let short: Vec<u64> = signatures.iter().map(|signature| signature & (u64::MAX >> (64 - bits))).collect();
        for &(entries, ways) in caches {
            let config = McacheConfig { entries, ways, ..McacheConfig::default() };
            counts.push(Hitmap::new(layout, &short, &config, scope).counts().to_vec());
        }
    }
    counts
}

/// Prints and returns the nanoseconds per vector of the fastest of five runs.
fn time(name: &str, layout: Layout, run: impl Fn() -> u64) -> f64 {
    let (mut best, mut result) = (f64::INFINITY, 0);
    for _ in 0..5 {
        let start = Instant::now();
        result = run();
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / layout.vectors() as f64);
    }
    println!("  {name}: {best:.2} ns per vector ({result} of {})", layout.vectors());
    best
}
