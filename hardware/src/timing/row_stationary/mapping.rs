//! Mapping of PE sets to the array: strips, folds and copies.

use super::{HitCycles, PeArray, RowCost, RowCounts, Shape};
use mercury_trace::geometry::Pass;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

/// Most values of a mapping parameter that the search tries, largest first.
const MAX_TRIED: usize = 32;

/// The parameters of a mapping, with the symbols of Eyeriss (ISCA 2016, section V.C; JSSC 2017,
/// table III).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Rows of the kernel in a PE set: all, unless the kernel is higher than the array.
    pub kernel_rows: u64,
    /// e: output rows at once. A plane with more rows is cut into strips.
    pub strip: u64,
    /// t: PE sets with the same output row and channel, but different filters.
    pub filter_lanes: u64,
    /// r: PE sets with the same output row and filter, but different channels.
    pub channel_lanes: u64,
    /// p: filters that a PE interleaves.
    pub filters: u64,
    /// q: channels that a PE interleaves.
    pub channels: u64,
    /// n: samples that share one load of filters.
    pub samples: u64,
    /// m: filters whose psums the buffer holds, per sample.
    pub buffered_filters: u64,
}

/// Cycles of a dense product.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cycles {
    /// Computing in PE sets, which the Hitmap shortens.
    pub compute: u64,
    /// Loading filters at the start of each pass; in a weight gradient, storing gradients.
    pub load: u64,
    /// Loading the first windows at the start of each pass.
    pub fill: u64,
    /// Weight gradient: adding up the gradients of the sets at the end of each pass.
    pub drain: u64,
    /// Time of the busier of the ifmap and the psum bus. It overlaps with `compute`.
    pub network: u64,
}

impl Cycles {
    /// Cycles that do not overlap with computing, the same with and without reuse.
    pub fn overhead(&self) -> u64 {
        self.load + self.fill + self.drain
    }

    /// Cycles of waiting for ifmaps and psums, in addition to computing.
    pub fn stall(&self) -> u64 {
        self.network.saturating_sub(self.compute)
    }

    /// All cycles.
    pub fn total(&self) -> u64 {
        self.compute + self.stall() + self.overhead()
    }
}

/// The mapping of a product to the array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    shape: Shape,
    array: PeArray,
    choice: Choice,
    /// Whether neighbouring sets of a strip share rows of the ifmap, along diagonals.
    shares_diagonals: bool,
}

impl Mapping {
    /// The mapping with the fewest cycles. Ties are resolved by the fewest words from DRAM, then by
    /// the most filter lanes, which share a Hitmap.
    ///
    /// # Panics
    /// If a dimension of the shape or the array is 0.
    pub fn new(shape: &Shape, array: &PeArray) -> Self {
        // A search takes longer than the replay of a small layer, and a sweep needs the same
        // mappings again.
        static FOUND: LazyLock<Mutex<HashMap<(Shape, PeArray), Mapping>>> = LazyLock::new(Mutex::default);
        let lock_found = || FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        let found = lock_found().get(&(*shape, *array)).copied();
        found.unwrap_or_else(|| {
            let best = Self::search(shape, array);
            lock_found().insert((*shape, *array), best);
            best
        })
    }

    fn search(shape: &Shape, array: &PeArray) -> Self {
        let shapes = if shape.free { list_row_shapes(shape, array) } else { vec![*shape] };
        let mappings = shapes.iter().flat_map(|shape| list_mappings(shape, array));
        mappings.min_by_key(Mapping::cost).expect("a plane can always be cut into strips of a row")
    }

    /// A mapping with given parameters, such as a published one.
    ///
    /// # Panics
    /// If a parameter is 0.
    pub fn with(shape: &Shape, array: &PeArray, choice: Choice) -> Self {
        let Choice { kernel_rows, strip, filter_lanes, channel_lanes, filters, channels, samples, buffered_filters } =
            choice;
        let all = [kernel_rows, strip, filter_lanes, channel_lanes, filters, channels, samples, buffered_filters];
        assert!(!all.contains(&0), "a mapping's parameters are at least 1");
        Self { shape: *shape, array: *array, choice, shares_diagonals: true }
    }

    /// The same with output rows of a strip anywhere, so that each reads all its ifmap rows.
    #[must_use]
    pub fn without_diagonals(self) -> Self {
        Self { shares_diagonals: false, ..self }
    }

    /// Ifmap rows that the sets of a strip read.
    fn strip_rows(&self) -> u64 {
        let Choice { kernel_rows, strip, .. } = self.choice;
        let strip = strip.min(self.shape.output[0]);
        if self.shares_diagonals {
            Shape { kernel: [kernel_rows, 0], ..self.shape }.touched_rows(strip)
        } else {
            strip * kernel_rows
        }
    }

    /// The shape. The vectors of a matrix product are cut into kernel rows, and `output[1]`
    /// consecutive vectors are an output row.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The parameters of the mapping.
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// Number of strips of a plane.
    pub fn strips(&self) -> u64 {
        self.shape.output[0].div_ceil(self.choice.strip)
    }

    /// PEs that compute a full strip.
    pub fn active_pes(&self) -> u64 {
        let Choice { kernel_rows, strip, filter_lanes, channel_lanes, .. } = self.choice;
        strip * filter_lanes * channel_lanes * kernel_rows
    }

    /// PE sets of a [`super::Schedule`]: those of the `e` rows, for each channel lane. Filter lanes
    /// do the same work at the same time, so they are not counted.
    pub fn sets(&self) -> u64 {
        self.choice.strip * self.choice.channel_lanes
    }

    /// Filters that each PE set processes one after another in a scope.
    pub fn filters_per_set(&self) -> u64 {
        self.shape.filters.div_ceil(self.choice.filter_lanes)
    }

    /// Rounds of scopes. In each round every channel lane has one (sample, channel) pair.
    /// Consecutive channels of a sample are in the same round.
    pub fn rounds(&self) -> u64 {
        self.shape.samples * (self.shape.channels * self.shape.groups).div_ceil(self.choice.channel_lanes)
    }

    /// The cycles of an output row for one filter.
    pub fn row_cost(&self, hit_cycles: HitCycles) -> RowCost {
        // Parts of the kernel's rows come one after another. Parts of its columns accumulate in the
        // psum scratchpad of the PE.
        let parts = self.row_parts();
        let hops = self.choice.kernel_rows - 1;
        RowCost {
            computed: parts * self.shape.kernel[1],
            hit: hit_cycles.resolve(self.choice.kernel_rows),
            // Gradients stay in the PEs until the end of the pass.
            accumulation: if self.shape.pass == Pass::WeightGrad { 0 } else { parts * hops },
        }
    }

    /// Cycles of the dense product.
    pub fn baseline(&self) -> Cycles {
        let cost = self.row_cost(HitCycles::ONE);
        let row = cost.row(RowCounts { computed: self.shape.output[1], hit: 0 });
        let passes = self.passes();
        let ifmaps = self.ifmap_loads().div_ceil(self.array.ifmap_bus);
        let psums = self.psum_loads().div_ceil(self.array.psum_bus);
        let drain = if self.shape.pass == Pass::WeightGrad { passes * (self.choice.strip - 1) } else { 0 };
        Cycles {
            compute: self.rounds() * self.filters_per_set() * self.strips() * row,
            load: self.filter_loads().div_ceil(self.array.filter_bus),
            fill: passes.saturating_mul(self.window_words().div_ceil(self.array.ifmap_bus)),
            drain,
            network: if self.array.network_bound { ifmaps.max(psums) } else { 0 },
        }
    }

    /// Processing passes.
    pub fn passes(&self) -> u64 {
        let Choice { filter_lanes, channel_lanes, filters, channels, samples, .. } = self.choice;
        self.strips()
            * self.row_parts()
            * self.shape.filters.div_ceil(filter_lanes * filters)
            * self.channel_passes(channels).div_ceil(channel_lanes)
            * self.shape.samples.div_ceil(samples)
    }

    /// Passes over the channels with one channel lane.
    fn channel_passes(&self, channels: u64) -> u64 {
        self.shape.groups * (self.shape.channels * self.column_parts()).div_ceil(channels)
    }

    /// Ifmap words that reach the array: all words in each pass over the filters.
    pub(in crate::timing) fn ifmap_loads(&self) -> u64 {
        let Choice { filter_lanes, filters, .. } = self.choice;
        let plane = self.strips() * self.row_parts() * self.strip_rows() * self.shape.touched_columns();
        plane * self.shape.scopes() * self.shape.filters.div_ceil(filter_lanes * filters)
    }

    /// Psum words that reach the array: all words in each pass over the channels. As many leave it,
    /// by another bus. In a weight gradient, the words of dY.
    pub(in crate::timing) fn psum_loads(&self) -> u64 {
        let Choice { channel_lanes, channels, .. } = self.choice;
        let positions = self.shape.output[0] * self.shape.output[1] * self.shape.samples;
        // Channel lanes of a group add to the same psums.
        let lanes = channel_lanes.min(self.shape.channels);
        positions * self.shape.filters * self.row_parts() * self.channel_passes(channels).div_ceil(lanes)
    }

    /// Filter words that reach the array.
    pub(in crate::timing) fn filter_loads(&self) -> u64 {
        let is_whole = self.column_parts() == 1 && self.row_parts() == 1;
        let loads = match self.shape.shared_filters {
            None => self.strips() * self.shape.samples.div_ceil(self.choice.samples),
            // Filters that all vectors share are loaded once, if the PEs hold them completely.
            Some(channels) if is_whole && channels <= self.choice.channels => 1,
            Some(channels) => self.strips() * self.shape.scopes().div_ceil(channels),
        };
        self.shape.filter_words() * loads
    }

    /// Ifmap words that a pass loads before all PEs compute: the first window of each row.
    fn window_words(&self) -> u64 {
        let columns = divide_evenly(self.shape.kernel[1], self.array.ifmap_words);
        self.strip_rows() * columns * self.choice.channels * self.choice.channel_lanes
    }

    /// Words of ifmaps and filters from DRAM, which depend on the mapping. Psums never leave the
    /// buffer.
    pub fn dram_words(&self) -> u64 {
        let Shape { samples, channels, groups, filters, .. } = self.shape;
        let planes = samples * channels * groups * self.strips();
        let ifmap = planes * self.shape.touched_rows(self.choice.strip) * self.shape.touched_columns();
        ifmap * filters.div_ceil(self.choice.buffered_filters) + self.filter_loads()
    }

    /// Hops of an output's partial sums up the columns, per channel and filter.
    pub(in crate::timing) fn hops(&self) -> u64 {
        self.row_parts() * (self.choice.kernel_rows - 1)
    }

    /// Parts into which a kernel higher than the array is cut.
    pub(in crate::timing) fn row_parts(&self) -> u64 {
        self.shape.kernel[0].div_ceil(self.choice.kernel_rows)
    }

    /// Parts into which a kernel wider than the ifmap scratchpad is cut.
    fn column_parts(&self) -> u64 {
        self.shape.kernel[1].div_ceil(self.array.ifmap_words)
    }

    /// The key by which the search compares mappings; the least is best.
    fn cost(&self) -> (u64, u64, u64) {
        (self.baseline().total(), self.dram_words(), u64::MAX - self.choice.filter_lanes)
    }
}

/// Computes the size of parts when `size` is cut evenly into the fewest parts of at most `most`.
fn divide_evenly(size: u64, most: u64) -> u64 {
    size.div_ceil(size.div_ceil(most))
}

/// Lists the sizes up to `most` into which `size` can be cut evenly, largest first.
fn list_part_sizes(size: u64, most: u64) -> Vec<u64> {
    let mut sizes = Vec::new();
    let mut next = most.min(size);
    while next > 0 && sizes.len() < MAX_TRIED {
        let even = divide_evenly(size, next);
        sizes.push(even);
        next = even - 1;
    }
    sizes
}

/// Lists the shapes of a matrix product whose vectors are cut into kernel rows and gathered into
/// output rows.
fn list_row_shapes(shape: &Shape, array: &PeArray) -> Vec<Shape> {
    let ([_, length], [vectors, _]) = (shape.kernel, shape.output);
    let mut shapes = Vec::new();
    for height in list_part_sizes(array.rows, length) {
        let mut row = vectors;
        loop {
            let output = [vectors.div_ceil(row), row];
            let kernel = [height, length.div_ceil(height)];
            // Vectors have no elements in common, so windows do not overlap.
            shapes.push(Shape { kernel, output, stride: kernel, ..*shape });
            if row == 1 {
                break;
            }
            row = row.div_ceil(2);
        }
    }
    shapes
}

/// Lists the mappings of a shape that fit the array and its storage.
fn list_mappings(shape: &Shape, array: &PeArray) -> Vec<Mapping> {
    let mut mappings = Vec::new();
    // A kernel that fits is not cut, because the array then adds up its partial sums.
    let fits = shape.kernel[0] <= array.rows;
    let kernel_cuts = list_part_sizes(shape.kernel[0], array.rows);
    for kernel_rows in kernel_cuts.into_iter().take(if fits { 1 } else { MAX_TRIED }) {
        let slots = array.rows / kernel_rows * array.columns;
        for strip in list_part_sizes(shape.output[0], slots) {
            let lanes = slots / strip;
            for filter_lanes in list_part_sizes(shape.filters, lanes) {
                let channel_lanes = divide_evenly(shape.channels * shape.groups, lanes / filter_lanes);
                let placed = Placement { kernel_rows, strip, filter_lanes, channel_lanes };
                mappings.extend(placed.complete(shape, array, true));
            }
        }
    }
    if mappings.is_empty() {
        // The psums of a single row do not fit the buffer. In reality they would go to DRAM and
        // back.
        let kernel_rows = divide_evenly(shape.kernel[0], array.rows);
        let placed = Placement { kernel_rows, strip: 1, filter_lanes: 1, channel_lanes: 1 };
        mappings.extend(placed.complete(shape, array, false));
    }
    mappings
}

/// The parameters that assign work to PEs.
struct Placement {
    kernel_rows: u64,
    strip: u64,
    filter_lanes: u64,
    channel_lanes: u64,
}

impl Placement {
    /// Adds the parameters of interleaving and of the buffer. With `must_fit`, the result is `None`
    /// if psums do not fit.
    fn complete(&self, shape: &Shape, array: &PeArray, must_fit: bool) -> Option<Mapping> {
        let &Self { kernel_rows, strip, filter_lanes, channel_lanes } = self;
        let width = divide_evenly(shape.kernel[1], array.ifmap_words);
        let column_parts = shape.kernel[1].div_ceil(array.ifmap_words);
        let held = array.ifmap_words.min(array.filter_words) / width;
        let channels = held.clamp(1, shape.channels * column_parts);
        // Words of the buffer for the ifmap rows of a sample, and for the psums of one filter.
        let window = shape.touched_rows(strip) * shape.touched_columns().div_ceil(column_parts);
        let ifmap = window * channels * channel_lanes;
        let psums = strip * shape.output[1] * channel_lanes.div_ceil(shape.channels);
        let room = |samples: u64| (array.buffer_words / samples).saturating_sub(ifmap) / psums;
        let spads = (array.filter_words / (width * channels)).min(array.psum_words);
        let most = spads.min(room(1) / filter_lanes);
        if most == 0 && must_fit {
            return None;
        }
        let filters = divide_evenly(shape.filters.div_ceil(filter_lanes), most.max(1));
        let folded = filters * filter_lanes;
        let with_samples = |samples: u64| {
            let buffered_filters = (room(samples) / folded * folded).max(folded).min(shape.filters);
            let choice = Choice {
                kernel_rows,
                strip,
                filter_lanes,
                channel_lanes,
                filters,
                channels,
                samples,
                buffered_filters,
            };
            Mapping { shape: *shape, array: *array, choice, shares_diagonals: true }
        };
        // With more samples a load of filters is shared more often. But the buffer then has room
        // for fewer filters, so ifmaps are read more often.
        let powers = (0..u64::BITS).map(|power| 1 << power).take_while(|&samples| samples < shape.samples);
        let held = powers.chain([shape.samples]).filter(|&samples| samples == 1 || room(samples) >= folded);
        held.map(with_samples).min_by_key(|mapping| (mapping.dram_words(), u64::MAX - mapping.choice.samples))
    }
}
