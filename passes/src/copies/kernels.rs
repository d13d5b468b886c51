//! The loops of products with copied results, for the widest registers of the CPU.
//!
//! Rows of `width` values lie side by side, a value for each kernel; `width` is a multiple of [`LANES`].

#![expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]

use super::lists::RunLists;
use pulp::{Simd, WithSimd};

/// Values that fill whole registers on every CPU.
pub const LANES: usize = 16;

/// Adds the products of a number and each value to sums.
#[inline(always)]
fn add_scaled<S: Simd>(simd: S, factor: f32, values: &[S::f32s], sums: &mut [S::f32s]) {
    let factor = simd.splat_f32s(factor);
    for (sum, &value) in sums.iter_mut().zip(values) {
        *sum = simd.mul_add_f32s(factor, value, *sum);
    }
}

#[inline(always)]
fn add<S: Simd>(simd: S, values: &[S::f32s], sums: &mut [S::f32s]) {
    for (sum, &value) in sums.iter_mut().zip(values) {
        *sum = simd.add_f32s(*sum, value);
    }
}

/// Vectors in memory: element `e` of vector `v` is the value at `starts[v] + offsets[e]`.
pub struct Vectors<'a> {
    pub values: &'a [f32],
    pub starts: &'a [u32],
    pub offsets: &'a [u32],
}

/// Computes the results of vectors, stores them and adds them to `sums`.
pub struct Multiply<'a> {
    pub vectors: &'a Vectors<'a>,
    /// Positions of the vectors.
    pub computed: &'a [u32],
    /// `[elements][width]`.
    pub weights: &'a [f32],
    pub width: usize,
    /// `[positions][width]`.
    pub results: &'a mut [f32],
    /// `[positions][width]`.
    pub sums: &'a mut [f32],
}

impl Multiply<'_> {
    /// Computes `BLOCKS` registers of each row, from register `first` on.
    #[inline(always)]
    fn compute<S: Simd, const BLOCKS: usize>(&mut self, simd: S, first: usize) {
        let stride = self.width / S::F32_LANES;
        let weights = S::as_simd_f32s(self.weights).0;
        let (results, sums) = (S::as_mut_simd_f32s(self.results).0, S::as_mut_simd_f32s(self.sums).0);
        for (&position, &start) in self.computed.iter().zip(self.vectors.starts) {
            let (position, elements) = (position as usize, &self.vectors.values[start as usize..]);
            let mut row = [simd.splat_f32s(0.0); BLOCKS];
            for (&offset, weights) in self.vectors.offsets.iter().zip(weights.chunks_exact(stride)) {
                add_scaled(simd, elements[offset as usize], &weights[first..][..BLOCKS], &mut row);
            }
            for (result, &value) in results[position * stride + first..][..BLOCKS].iter_mut().zip(&row) {
                *result = value;
            }
            add(simd, &row, &mut sums[position * stride + first..][..BLOCKS]);
        }
    }
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let registers = self.width / S::F32_LANES;
        let mut first = 0;
        while registers - first >= 4 {
            self.compute::<S, 4>(simd, first);
            first += 4;
        }
        while registers - first >= 2 {
            self.compute::<S, 2>(simd, first);
            first += 2;
        }
        if registers > first {
            self.compute::<S, 1>(simd, first);
        }
    }
}

/// Adds to `sums` the results that HITs take.
pub struct AddHits<'a> {
    pub lists: &'a RunLists,
    /// `[places][width]`.
    pub results: &'a [f32],
    pub width: usize,
    /// `[positions][width]`.
    pub sums: &'a mut [f32],
}

impl WithSimd for AddHits<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let stride = self.width / S::F32_LANES;
        let (results, sums) = (S::as_simd_f32s(self.results).0, S::as_mut_simd_f32s(self.sums).0);
        for (number, &(position, place)) in self.lists.hits.iter().enumerate() {
            let result = &results[place as usize * stride..][..stride];
            let sum = &mut sums[position as usize * stride..][..stride];
            match self.lists.scales.get(number) {
                Some(&scale) => add_scaled(simd, scale, result, sum),
                None => add(simd, result, sum),
            }
        }
    }
}

/// Sums the rows that meet one entry.
pub struct SumHits<'a> {
    pub lists: &'a RunLists,
    /// The place of the run's first vector in `sums`.
    pub first: usize,
    /// `[positions][width]`.
    pub rows: &'a [f32],
    pub width: usize,
    /// `[places][width]`; those of computed vectors are overwritten.
    pub sums: &'a mut [f32],
}

impl WithSimd for SumHits<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let stride = self.width / S::F32_LANES;
        let (rows, sums) = (S::as_simd_f32s(self.rows).0, S::as_mut_simd_f32s(self.sums).0);
        for &position in &self.lists.computed {
            let place = self.first + position as usize;
            let row = &rows[position as usize * stride..][..stride];
            // A call to copy a few registers would take longer.
            sums[place * stride..][..stride].iter_mut().zip(row).for_each(|(sum, &value)| *sum = value);
        }
        for (number, &(position, place)) in self.lists.hits.iter().enumerate() {
            let row = &rows[position as usize * stride..][..stride];
            let sum = &mut sums[place as usize * stride..][..stride];
            match self.lists.scales.get(number) {
                Some(&scale) => add_scaled(simd, scale, row, sum),
                None => add(simd, row, sum),
            }
        }
    }
}

/// Adds the products of vectors with the summed rows that they meet to a gradient.
pub struct Correlate<'a> {
    pub vectors: &'a Vectors<'a>,
    /// Positions of the vectors.
    pub computed: &'a [u32],
    /// `[positions][width]`.
    pub sums: &'a [f32],
    pub width: usize,
    /// `[elements][width]`.
    pub gradient: &'a mut [f32],
}

impl Correlate<'_> {
    /// Adds for `ELEMENTS` elements from `element` on, and `BLOCKS` registers of each row from `first` on.
    #[inline(always)]
    fn add_block<S: Simd, const ELEMENTS: usize, const BLOCKS: usize>(
        &mut self,
        simd: S,
        element: usize,
        first: usize,
    ) {
        let stride = self.width / S::F32_LANES;
        let sums = S::as_simd_f32s(self.sums).0;
        let offsets: [usize; ELEMENTS] = std::array::from_fn(|number| self.vectors.offsets[element + number] as usize);
        let mut products = [[simd.splat_f32s(0.0); BLOCKS]; ELEMENTS];
        for (&position, &start) in self.computed.iter().zip(self.vectors.starts) {
            let row = &sums[position as usize * stride + first..][..BLOCKS];
            let elements = &self.vectors.values[start as usize..];
            for (products, &offset) in products.iter_mut().zip(&offsets) {
                add_scaled(simd, elements[offset], row, products);
            }
        }
        let gradient = S::as_mut_simd_f32s(self.gradient).0;
        for (offset, products) in products.iter().enumerate() {
            add(simd, products, &mut gradient[(element + offset) * stride + first..][..BLOCKS]);
        }
    }

    #[inline(always)]
    fn add_elements<S: Simd, const ELEMENTS: usize>(&mut self, simd: S, element: usize) {
        let registers = self.width / S::F32_LANES;
        let mut first = 0;
        while registers - first >= 2 {
            self.add_block::<S, ELEMENTS, 2>(simd, element, first);
            first += 2;
        }
        if registers > first {
            self.add_block::<S, ELEMENTS, 1>(simd, element, first);
        }
    }
}

impl WithSimd for Correlate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let elements = self.vectors.offsets.len();
        let mut element = 0;
        while elements - element >= 9 {
            self.add_elements::<S, 9>(simd, element);
            element += 9;
        }
        while elements - element >= 3 {
            self.add_elements::<S, 3>(simd, element);
            element += 3;
        }
        while element < elements {
            self.add_elements::<S, 1>(simd, element);
            element += 1;
        }
    }
}
