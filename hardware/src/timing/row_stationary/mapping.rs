//! How PE sets are laid on the array: strips, folds and copies.

use super::{PeArray, RowCost, RowCounts, Shape};
use mercury_trace::geometry::Pass;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

/// How many values of a mapping's parameter are tried, largest first.
const TRIED: usize = 32;

/// What is on the array at once; names as in Eyeriss (ISCA 2016, section V.C; JSSC 2017, table III).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Rows of the kernel that a PE set holds: all, unless the kernel is higher than the array.
    pub kernel_rows: u64,
    /// e: output rows at once; a plane of more is cut into strips.
    pub strip: u64,
    /// t: PE sets of an output row and channel that take different filters.
    pub filter_lanes: u64,
    /// r: PE sets of an output row and filter that take different channels.
    pub channel_lanes: u64,
    /// p: filters that a PE interleaves.
    pub filters: u64,
    /// q: channels that a PE interleaves.
    pub channels: u64,
    /// n: samples that share one load of filters.
    pub samples: u64,
    /// m: filters whose psums the buffer holds, for each of the n samples.
    pub buffered_filters: u64,
}

/// Cycles of a dense product.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cycles {
    /// PE sets at work: what the Hitmap changes.
    pub compute: u64,
    /// Loading filters at the start of each pass (storing gradients, in a weight gradient).
    pub load: u64,
    /// Filling the first windows at the start of each pass.
    pub fill: u64,
    /// Adding up the sets' gradients at the end of each pass of a weight gradient.
    pub drain: u64,
    /// The busier of the ifmap and the psum bus: overlaps with `compute`, which waits if it is less.
    pub network: u64,
}

impl Cycles {
    /// All that is spent beside computing, with or without reuse.
    pub fn overhead(&self) -> u64 {
        self.load + self.fill + self.drain
    }

    /// Waiting for ifmaps and psums, beyond computing.
    pub fn stall(&self) -> u64 {
        self.network.saturating_sub(self.compute)
    }

    /// All cycles.
    pub fn total(&self) -> u64 {
        self.compute + self.stall() + self.overhead()
    }
}

/// A product laid on the array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    shape: Shape,
    array: PeArray,
    choice: Choice,
}

impl Mapping {
    /// The mapping with the fewest cycles, of those the one with the fewest words from DRAM, of those
    /// the one that shares a Hitmap among the most filter lanes.
    ///
    /// # Panics
    /// If a dimension of the shape or the array is 0.
    pub fn new(shape: &Shape, array: &PeArray) -> Self {
        // A search takes longer than a small layer's replay, and a sweep asks for the same ones again.
        static KNOWN: LazyLock<Mutex<HashMap<(Shape, PeArray), Mapping>>> = LazyLock::new(Mutex::default);
        let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known().get(&(*shape, *array)).copied();
        found.unwrap_or_else(|| {
            let best = Self::search(shape, array);
            known().insert((*shape, *array), best);
            best
        })
    }

    fn search(shape: &Shape, array: &PeArray) -> Self {
        let shapes = if shape.free { cut_rows(shape, array) } else { vec![*shape] };
        let mappings = shapes.iter().flat_map(|shape| candidates(shape, array));
        mappings.min_by_key(Mapping::cost).expect("a plane can always be cut into strips of a row")
    }

    /// A mapping of one's own choice, such as a published one.
    ///
    /// # Panics
    /// If a number of the choice is 0.
    pub fn with(shape: &Shape, array: &PeArray, choice: Choice) -> Self {
        let Choice { kernel_rows, strip, filter_lanes, channel_lanes, filters, channels, samples, buffered_filters } =
            choice;
        let all = [kernel_rows, strip, filter_lanes, channel_lanes, filters, channels, samples, buffered_filters];
        assert!(!all.contains(&0), "a mapping's parameters are at least 1");
        Self { shape: *shape, array: *array, choice }
    }

    /// The shape, with a matrix product's vectors cut into kernel rows and output rows:
    /// `output[1]` consecutive vectors are an output row.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// What is on the array at once.
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// Strips of a plane.
    pub fn strips(&self) -> u64 {
        self.shape.output[0].div_ceil(self.choice.strip)
    }

    /// PEs at work while a full strip is.
    pub fn active_pes(&self) -> u64 {
        let Choice { kernel_rows, strip, filter_lanes, channel_lanes, .. } = self.choice;
        strip * filter_lanes * channel_lanes * kernel_rows
    }

    /// PE sets that a [`super::Schedule`] tells apart: those of the `e` rows, for each channel lane.
    /// Filter lanes do the same work at the same time.
    pub fn sets(&self) -> u64 {
        self.choice.strip * self.choice.channel_lanes
    }

    /// Filters that each PE set takes one after another in a scope.
    pub fn filters_per_set(&self) -> u64 {
        self.shape.filters.div_ceil(self.choice.filter_lanes)
    }

    /// Rounds of scopes: in each, every channel lane has one (sample, channel). Consecutive channels
    /// of a sample go side by side.
    pub fn rounds(&self) -> u64 {
        self.shape.samples * (self.shape.channels * self.shape.groups).div_ceil(self.choice.channel_lanes)
    }

    /// What an output row costs for one filter.
    pub fn row_cost(&self, hit_cycles: u64) -> RowCost {
        // A part of the kernel's rows after the other; parts of its columns stay in the PE's psums.
        let parts = self.row_parts();
        let hops = self.choice.kernel_rows - 1;
        RowCost {
            computed: parts * self.shape.kernel[1],
            hit: hit_cycles,
            // Gradients stay in the PEs until the pass ends.
            accumulation: if self.shape.pass == Pass::WeightGrad { 0 } else { parts * hops },
        }
    }

    /// Cycles of the dense product.
    pub fn baseline(&self) -> Cycles {
        let cost = self.row_cost(0);
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

    /// Passes over the channels, if there was one lane of them.
    fn channel_passes(&self, channels: u64) -> u64 {
        self.shape.groups * (self.shape.channels * self.column_parts()).div_ceil(channels)
    }

    /// Ifmap words that reach the array: all, for each pass over the filters.
    pub(in crate::timing) fn ifmap_loads(&self) -> u64 {
        let Choice { kernel_rows, strip, filter_lanes, filters, .. } = self.choice;
        let rows = Shape { kernel: [kernel_rows, 0], ..self.shape }.touched_rows(strip.min(self.shape.output[0]));
        let plane = self.strips() * self.row_parts() * rows * self.shape.touched_columns();
        plane * self.shape.scopes() * self.shape.filters.div_ceil(filter_lanes * filters)
    }

    /// Psum words that reach the array, and as many that leave it (by a bus of their own): all, for
    /// each pass over the channels. In a weight gradient, the words of dY.
    pub(in crate::timing) fn psum_loads(&self) -> u64 {
        let Choice { channel_lanes, channels, .. } = self.choice;
        let positions = self.shape.output[0] * self.shape.output[1] * self.shape.samples;
        // Lanes of a group add to the same psums.
        let lanes = channel_lanes.min(self.shape.channels);
        positions * self.shape.filters * self.row_parts() * self.channel_passes(channels).div_ceil(lanes)
    }

    /// Filter words that reach the array.
    pub(in crate::timing) fn filter_loads(&self) -> u64 {
        // Filters that all channels share stay, if the PEs hold them whole.
        let stay = self.shape.shared_filters && self.column_parts() == 1 && self.row_parts() == 1;
        let again = if stay {
            1
        } else if self.shape.shared_filters {
            self.strips() * self.shape.scopes()
        } else {
            self.strips() * self.shape.samples.div_ceil(self.choice.samples)
        };
        self.shape.filter_words() * again
    }

    /// Ifmap words that a pass waits for before all PEs are at work: the first window of each row.
    fn window_words(&self) -> u64 {
        let strip = self.choice.strip.min(self.shape.output[0]);
        let rows = Shape { kernel: [self.choice.kernel_rows, 0], ..self.shape }.touched_rows(strip);
        rows * part(self.shape.kernel[1], self.array.ifmap_words) * self.choice.channels * self.choice.channel_lanes
    }

    /// Words from DRAM for ifmaps and filters, which depend on the choice; psums never leave the buffer.
    pub fn dram_words(&self) -> u64 {
        let Shape { samples, channels, groups, filters, .. } = self.shape;
        let planes = samples * channels * groups * self.strips();
        let ifmap = planes * self.shape.touched_rows(self.choice.strip) * self.shape.touched_columns();
        ifmap * filters.div_ceil(self.choice.buffered_filters) + self.filter_loads()
    }

    /// Hops of an output's partial sums up the columns, for a channel and filter.
    pub(in crate::timing) fn hops(&self) -> u64 {
        self.row_parts() * (self.choice.kernel_rows - 1)
    }

    /// Parts into which a kernel higher than the array is cut.
    pub(in crate::timing) fn row_parts(&self) -> u64 {
        self.shape.kernel[0].div_ceil(self.choice.kernel_rows)
    }

    fn column_parts(&self) -> u64 {
        self.shape.kernel[1].div_ceil(self.array.ifmap_words)
    }

    fn cost(&self) -> (u64, u64, u64) {
        (self.baseline().total(), self.dram_words(), u64::MAX - self.choice.filter_lanes)
    }
}

/// The size of equal parts of `size`, none larger than `most`.
fn part(size: u64, most: u64) -> u64 {
    size.div_ceil(size.div_ceil(most))
}

/// The sizes up to `most` into which `size` can be cut evenly, largest first.
fn cuts(size: u64, most: u64) -> Vec<u64> {
    let mut sizes = Vec::new();
    let mut next = most.min(size);
    while next > 0 && sizes.len() < TRIED {
        let even = part(size, next);
        sizes.push(even);
        next = even - 1;
    }
    sizes
}

/// Vectors of a matrix product cut into kernel rows, and gathered into output rows.
fn cut_rows(shape: &Shape, array: &PeArray) -> Vec<Shape> {
    let ([_, length], [vectors, _]) = (shape.kernel, shape.output);
    let mut shapes = Vec::new();
    for height in cuts(array.rows, length) {
        let mut row = vectors;
        loop {
            let output = [vectors.div_ceil(row), row];
            let kernel = [height, length.div_ceil(height)];
            // Vectors share nothing, so windows lie side by side.
            shapes.push(Shape { kernel, output, stride: kernel, ..*shape });
            if row == 1 {
                break;
            }
            row = row.div_ceil(2);
        }
    }
    shapes
}

/// Mappings of a shape that the array and its storage hold.
fn candidates(shape: &Shape, array: &PeArray) -> Vec<Mapping> {
    let mut mappings = Vec::new();
    // A kernel that fits is never cut: its partial sums are added up in the array.
    let fits = shape.kernel[0] <= array.rows;
    for kernel_rows in cuts(shape.kernel[0], array.rows).into_iter().take(if fits { 1 } else { TRIED }) {
        let slots = array.rows / kernel_rows * array.columns;
        for strip in cuts(shape.output[0], slots) {
            let lanes = slots / strip;
            for filter_lanes in cuts(shape.filters, lanes) {
                let channel_lanes = part(shape.channels * shape.groups, lanes / filter_lanes);
                let placed = Placement { kernel_rows, strip, filter_lanes, channel_lanes };
                mappings.extend(placed.complete(shape, array, true));
            }
        }
    }
    if mappings.is_empty() {
        // Psums of a single row do not fit in the buffer: they would go to DRAM and back.
        let kernel_rows = part(shape.kernel[0], array.rows);
        let placed = Placement { kernel_rows, strip: 1, filter_lanes: 1, channel_lanes: 1 };
        mappings.extend(placed.complete(shape, array, false));
    }
    mappings
}

/// The part of a choice that says which PE does what.
struct Placement {
    kernel_rows: u64,
    strip: u64,
    filter_lanes: u64,
    channel_lanes: u64,
}

impl Placement {
    /// Adds what a PE interleaves and what the buffer holds; none where psums do not fit (`must_fit`).
    fn complete(&self, shape: &Shape, array: &PeArray, must_fit: bool) -> Option<Mapping> {
        let &Self { kernel_rows, strip, filter_lanes, channel_lanes } = self;
        let width = part(shape.kernel[1], array.ifmap_words);
        let column_parts = shape.kernel[1].div_ceil(array.ifmap_words);
        let held = array.ifmap_words.min(array.filter_words) / width;
        let channels = held.clamp(1, shape.channels * column_parts);
        // Words of the buffer that a sample's ifmap rows and one filter's psums take.
        let window = shape.touched_rows(strip) * shape.touched_columns().div_ceil(column_parts);
        let ifmap = window * channels * channel_lanes;
        let psums = strip * shape.output[1] * channel_lanes.div_ceil(shape.channels);
        let room = |samples: u64| (array.buffer_words / samples).saturating_sub(ifmap) / psums;
        let spads = (array.filter_words / (width * channels)).min(array.psum_words);
        let most = spads.min(room(1) / filter_lanes);
        if most == 0 && must_fit {
            return None;
        }
        let filters = part(shape.filters.div_ceil(filter_lanes), most.max(1));
        let folded = filters * filter_lanes;
        let with = |samples: u64| {
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
            Mapping { shape: *shape, array: *array, choice }
        };
        // More samples share a load of filters, but leave room for fewer filters beside them, so that
        // ifmaps are read more often.
        let powers = (0..u64::BITS).map(|power| 1 << power).take_while(|&samples| samples < shape.samples);
        let held = powers.chain([shape.samples]).filter(|&samples| samples == 1 || room(samples) >= folded);
        held.map(with).min_by_key(|mapping| (mapping.dram_words(), u64::MAX - mapping.choice.samples))
    }
}
