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

/// A loop over rows that works on a constant number of registers of each.
pub trait RowLoop {
    /// Works on `BLOCKS` registers of each row, from register `first` on; a row has `stride`.
    fn work<S: Simd, const BLOCKS: usize>(&mut self, simd: S, first: usize, stride: usize);
}

/// Runs a loop for all registers of rows of `width` values, at most four at a time.
pub struct WholeRows<L> {
    pub width: usize,
    pub rows: L,
}

impl<L: RowLoop> WithSimd for WholeRows<L> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let stride = self.width / S::F32_LANES;
        let mut first = 0;
        while stride - first >= 4 {
            self.rows.work::<S, 4>(simd, first, stride);
            first += 4;
        }
        while stride - first >= 2 {
            self.rows.work::<S, 2>(simd, first, stride);
            first += 2;
        }
        if stride > first {
            self.rows.work::<S, 1>(simd, first, stride);
        }
    }
}

/// Vectors in memory: element `e` of vector `v` is the value at `starts[v] + offsets[e]`.
pub struct Vectors<'a> {
    pub values: &'a [f32],
    pub starts: &'a [u32],
    pub offsets: &'a [u32],
}

/// Computes results, each from the elements of its vector's representative.
pub struct Multiply<'a> {
    pub vectors: &'a Vectors<'a>,
    /// Positions of the results.
    pub computed: &'a [u32],
    /// `[elements][width]`.
    pub weights: &'a [f32],
    /// `[positions][width]`.
    pub results: &'a mut [f32],
    /// Whether a result is added to what is there.
    pub adds: bool,
}

impl Multiply<'_> {
    /// Computes as many results as there are wholly `VECTORS` at a time, from a vector on; returns the next one.
    #[inline(always)]
    fn multiply<S: Simd, const VECTORS: usize, const BLOCKS: usize>(
        &mut self,
        simd: S,
        (first, stride): (usize, usize),
        from: usize,
    ) -> usize {
        let weights = S::as_simd_f32s(self.weights).0;
        let results = S::as_mut_simd_f32s(self.results).0;
        let (computed, _) = self.computed[from..].as_chunks::<VECTORS>();
        let (starts, _) = self.vectors.starts[from..].as_chunks::<VECTORS>();
        for (computed, starts) in computed.iter().zip(starts) {
            let elements = starts.map(|start| &self.vectors.values[start as usize..]);
            let mut rows = [[simd.splat_f32s(0.0); BLOCKS]; VECTORS];
            for (&offset, weights) in self.vectors.offsets.iter().zip(weights.chunks_exact(stride)) {
                for (elements, row) in elements.iter().zip(&mut rows) {
                    add_scaled(simd, elements[offset as usize], &weights[first..][..BLOCKS], row);
                }
            }
            for (&position, row) in computed.iter().zip(&rows) {
                let result = &mut results[position as usize * stride + first..][..BLOCKS];
                if self.adds {
                    add(simd, row, result);
                } else {
                    result.iter_mut().zip(row).for_each(|(result, &value)| *result = value);
                }
            }
        }
        from + computed.len() * VECTORS
    }
}

impl RowLoop for Multiply<'_> {
    #[inline(always)]
    fn work<S: Simd, const BLOCKS: usize>(&mut self, simd: S, first: usize, stride: usize) {
        // At most eight registers of results, so that they stay in registers on every CPU.
        let next = if BLOCKS < 4 {
            self.multiply::<S, 4, BLOCKS>(simd, (first, stride), 0)
        } else {
            self.multiply::<S, 2, BLOCKS>(simd, (first, stride), 0)
        };
        self.multiply::<S, 1, BLOCKS>(simd, (first, stride), next);
    }
}

/// Adds to the sum of each position the result that its vector takes.
pub struct AddResults<'a> {
    pub lists: &'a RunLists,
    /// `[places][width]`.
    pub results: &'a [f32],
    /// `[positions][width]`.
    pub sums: &'a mut [f32],
}

impl RowLoop for AddResults<'_> {
    #[inline(always)]
    fn work<S: Simd, const BLOCKS: usize>(&mut self, simd: S, first: usize, stride: usize) {
        let (results, sums) = (S::as_simd_f32s(self.results).0, S::as_mut_simd_f32s(self.sums).0);
        let RunLists { places, scales, .. } = self.lists;
        for (position, (sum, &place)) in sums.chunks_exact_mut(stride).zip(places).enumerate() {
            let result = &results[place as usize * stride + first..][..BLOCKS];
            let sum = &mut sum[first..][..BLOCKS];
            match scales.get(position) {
                Some(&scale) => add_scaled(simd, scale, result, sum),
                None => add(simd, result, sum),
            }
        }
    }
}

/// Adds the row of each position to the sum of those that meet the same result.
pub struct SumRows<'a> {
    pub lists: &'a RunLists,
    /// `[positions][width]`.
    pub rows: &'a [f32],
    /// `[places][width]`.
    pub sums: &'a mut [f32],
}

impl RowLoop for SumRows<'_> {
    #[inline(always)]
    fn work<S: Simd, const BLOCKS: usize>(&mut self, simd: S, first: usize, stride: usize) {
        let (rows, sums) = (S::as_simd_f32s(self.rows).0, S::as_mut_simd_f32s(self.sums).0);
        let RunLists { places, scales, .. } = self.lists;
        for (position, (row, &place)) in rows.chunks_exact(stride).zip(places).enumerate() {
            let row = &row[first..][..BLOCKS];
            let sum = &mut sums[place as usize * stride + first..][..BLOCKS];
            match scales.get(position) {
                Some(&scale) => add_scaled(simd, scale, row, sum),
                None => add(simd, row, sum),
            }
        }
    }
}

/// Adds the products of vectors and rows to a gradient.
pub struct Correlate<'a> {
    pub vectors: &'a Vectors<'a>,
    /// Of each vector, the position of its row.
    pub computed: &'a [u32],
    /// Rows of dY, or their sums, `[positions][width]`.
    pub rows: &'a [f32],
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
        let rows = S::as_simd_f32s(self.rows).0;
        let offsets: [usize; ELEMENTS] = std::array::from_fn(|number| self.vectors.offsets[element + number] as usize);
        let mut products = [[simd.splat_f32s(0.0); BLOCKS]; ELEMENTS];
        for (&position, &start) in self.computed.iter().zip(self.vectors.starts) {
            let row = &rows[position as usize * stride + first..][..BLOCKS];
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
