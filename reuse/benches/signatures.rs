//! Signatures per second on one thread, and their share of the CPU's peak of fused multiply-adds.
//! Prints a JSON line for each case. `scripts/bench/signatures_peers.py` prints the same for other
//! software.
//!
//!     cargo bench -p mercury-reuse --bench signatures [-- [--all-kernels] [PART]]
//!
//! PART selects the cases whose names contain it. `--all-kernels` times all kernels except the
//! scalar one, which takes minutes.

use mercury_reuse::config::{Granularity, Matrix, Rpq, Variant};
use mercury_reuse::{Kernel, Planes, VectorView, signatures_with};
use mercury_trace::windows::{Axis, Windows};
use std::hint::black_box;
use std::time::Instant;

/// Measures the seconds of the fastest of several runs, after one warm-up run.
fn time_best(runs: usize, mut run: impl FnMut()) -> f64 {
    run();
    let timed = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    (0..runs).map(timed).fold(f64::INFINITY, f64::min)
}

/// A function that runs independent fused multiply-adds on a vector unit.
macro_rules! fused {
    ($name:ident, $feature:literal, $type:ty, $splat:ident, $fma:ident) => {
        #[target_feature(enable = $feature)]
        fn $name(rounds: usize) -> $type {
            let (a, b) = (black_box($splat(0.5)), black_box($splat(0.25)));
            let mut sums = [$splat(1.0); 12];
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = $fma(*sum, a, b);
                }
            }
            sums.into_iter().fold(a, |total, sum| $fma(total, b, sum))
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod peak {
    use super::black_box;
    use std::arch::x86_64::{__m256, __m512, _mm256_fmadd_ps, _mm256_set1_ps, _mm512_fmadd_ps, _mm512_set1_ps};

    fused!(fused512, "avx512f", __m512, _mm512_set1_ps, _mm512_fmadd_ps);
    fused!(fused256, "avx2,fma", __m256, _mm256_set1_ps, _mm256_fmadd_ps);

    /// Runs a loop on the widest unit. Returns the number of values that it multiplies and adds.
    pub fn run(rounds: usize) -> usize {
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the CPU has the feature.
            black_box(unsafe { fused512(rounds) });
            return rounds * 12 * 16;
        }
        assert!(std::arch::is_x86_feature_detected!("fma"), "no vector unit to compare with");
        // SAFETY: a CPU with fused multiply-add has AVX2.
        black_box(unsafe { fused256(rounds) });
        rounds * 12 * 8
    }
}

#[cfg(target_arch = "aarch64")]
mod peak {
    use super::black_box;
    use std::arch::aarch64::{float32x4_t, vdupq_n_f32, vfmaq_f32};

    fused!(fused128, "neon", float32x4_t, vdupq_n_f32, vfmaq_f32);

    /// Runs a loop on the widest unit. Returns the number of values that it multiplies and adds.
    pub fn run(rounds: usize) -> usize {
        // SAFETY: Rust's standard library requires NEON on this architecture.
        black_box(unsafe { fused128(rounds) });
        rounds * 12 * 4
    }
}

struct Case {
    what: &'static str,
    view: VectorView<'static>,
}

fn make_random(count: usize) -> &'static [f32] {
    let mut state = 1u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    Box::leak((0..count).map(|_| next()).collect())
}

/// A case with 3x3 windows of padded planes.
fn make_planes_case(
    what: &'static str,
    samples: usize,
    channels: usize,
    size: u32,
    stride: u32,
    cut: Granularity,
) -> Case {
    let values = make_random(samples * channels * (size * size) as usize);
    let axis = Axis::forward((size - 1) / stride + 1, 3, stride, 1, 1);
    let planes = Planes { values, samples, channels, height: size, width: size };
    Case { what, view: VectorView::new(planes, Windows { y: axis, x: axis }, 1, cut) }
}

/// A case with rows of a matrix.
fn make_rows_case(what: &'static str, samples: usize, rows: u32, length: u32) -> Case {
    let values = make_random(samples * (rows * length) as usize);
    Case { what, view: VectorView::from_rows(values, samples, 1, rows, length, Granularity::Patch) }
}

fn main() {
    let channel = Granularity::CHANNEL_PATCH;
    let cases = [
        make_planes_case("3x3 of 224x224", 1, 16, 224, 1, channel),
        make_planes_case("3x3 of 3 channels of 224x224", 4, 3, 224, 1, Granularity::Patch),
        make_planes_case("3x3 of 64 channels of 56x56", 2, 64, 56, 1, Granularity::Patch),
        make_planes_case("3x3 of 56x56", 1, 256, 56, 1, channel),
        make_planes_case("3x3 of 14x14", 2, 512, 14, 1, channel),
        make_planes_case("3x3 of 7x7", 8, 512, 7, 1, channel),
        make_planes_case("3x3 with stride 2 of 112x112", 1, 64, 112, 2, channel),
        make_planes_case("3x3 of 512 channels of 7x7", 8, 512, 7, 1, Granularity::Patch),
        make_rows_case("rows of 64", 64, 196, 64),
        make_rows_case("rows of 576", 8, 784, 576),
        make_rows_case("rows of 4608", 512, 1, 4608),
    ];
    let kernels = Kernel::available();
    let part = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).unwrap_or_default();
    let wanted =
        if std::env::args().any(|argument| argument == "--all-kernels") { kernels.len().max(2) - 1 } else { 1 };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread starts");
    let mut timer = Timer { part, pool, peak: 0.0 };
    for &kernel in &kernels[..wanted] {
        for case in &cases {
            for bits in [20, 32, 64] {
                timer.time_case(kernel, case, &Rpq { bits, ..Rpq::default() });
            }
        }
        for variant in [Variant::SignMagnitude(4), Variant::Centred] {
            for case in &cases[..3] {
                timer.time_case(kernel, case, &Rpq { variant, ..Rpq::default() });
            }
        }
        timer.time_case(kernel, &cases[0], &Rpq { projection: Matrix::Sparse, ..Rpq::default() });
    }
}

struct Timer {
    /// Only cases whose names contain this are timed.
    part: String,
    pool: rayon::ThreadPool,
    /// The highest rate of multiply-adds per second of all cases so far, because other processes
    /// can only reduce it.
    peak: f64,
}

impl Timer {
    /// Times a case and prints its result.
    fn time_case(&mut self, kernel: Kernel, case: &Case, rpq: &Rpq) {
        let Rpq { bits, variant, projection, .. } = rpq;
        let what = format!("signatures, {kernel}, {}, {bits} bits, {variant}, {projection:?}", case.what);
        if !what.contains(&self.part) {
            return;
        }
        let mut out = vec![0; case.view.layout().vectors()];
        let length = case.view.max_length();
        let mut done = 0;
        let seconds = time_best(5, || done = peak::run(500_000));
        self.peak = self.peak.max(done as f64 / seconds);
        let seconds = self.pool.install(|| time_best(15, || signatures_with(kernel, &case.view, rpq, &mut out)));
        let rate = out.len() as f64 / seconds;
        let share = rate * length as f64 * f64::from(rpq.bits) / self.peak;
        println!(
            r#"{{"what": "{what}", "d": {length}, "bits": {bits}, "ours": {:.3}, "unit": "M vectors/s", "peak_share": {share:.3}}}"#,
            rate / 1e6,
        );
    }
}
