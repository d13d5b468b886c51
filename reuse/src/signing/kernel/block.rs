//! The kernel for many vectors, written once for all instruction sets. Positions lie side by side
//! in registers, so each element of R is read once for a whole tile of vectors.
//!
//! A sum is never split: each lane adds up the products of one vector and one row of R, elements
//! ascending. So its bits equal those of the scalar loop.

use super::{Lines, Packed, Strip, plain};
use crate::config::Variant;

/// A vector unit. All functions are inlined into one that is compiled for the unit's features.
///
/// # Safety
/// The functions may be called only on a CPU with the features of the unit, and only with pointers
/// to [`Simd::LANES`] values (to one value for [`Simd::splat`]).
pub(super) trait Simd: Sized {
    /// A register of f32.
    type F: Copy;
    /// Values in a register.
    const LANES: usize;
    /// Most bits that are accumulated together, with [`Self::GROUPS`] registers of sums each. The
    /// number of registers limits it.
    const BITS: usize;
    /// Registers of positions in a tile.
    const GROUPS: usize;
    /// Positions in a tile.
    const TILE: usize = Self::LANES * Self::GROUPS;
    /// Whether R is negated. If so, a bit is set where the sum is below 0, otherwise where it is
    /// above.
    const NEGATED: bool;

    unsafe fn load(from: *const f32) -> Self::F;
    unsafe fn store(value: Self::F, to: *mut f32);
    /// The value in all lanes.
    unsafe fn splat(from: *const f32) -> Self::F;
    /// `a * b + c`, rounded once.
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    /// Reads `LANES` rows of `LANES` values and writes the columns.
    unsafe fn transpose(from: *const f32, from_pitch: usize, to: *mut f32, to_pitch: usize) {
        for row in 0..Self::LANES {
            for column in 0..Self::LANES {
                // SAFETY: the caller's pointers cover LANES rows at these pitches.
                unsafe { *to.add(column * to_pitch + row) = *from.add(row * from_pitch + column) };
            }
        }
    }
}

/// The signatures of a tile. Bits are added from bit 0 up.
///
/// # Safety
/// As [`Simd`]; `P` is `S::GROUPS`.
pub(super) trait Words<S: Simd, const P: usize> {
    /// Whether [`Words::add`] is faster for plain sums.
    const USES_PLAIN: bool;
    /// Signatures without bits.
    unsafe fn new() -> Self;
    /// Signatures with these low bits, at most 8 for each position.
    unsafe fn from_low_bits(low: &[u32; MAX_TILE]) -> Self;
    /// Adds the bits of `B` sums per position, from bit `first` up. A bit is set if the sum is
    /// below 0 with [`Simd::NEGATED`], otherwise if it is above 0. So it is never set for -0 or
    /// NaN. With `PLAIN` all sums are zero (not -0), normal or infinite. No bit from `first` up is
    /// set before, and a signature has at most 64 bits.
    unsafe fn add<const B: usize, const PLAIN: bool>(&mut self, sums: [[S::F; P]; B], first: u32);
    /// Writes the word of each position, [`Simd::TILE`] words.
    unsafe fn write(&self, to: *mut u64);
}

/// Most positions of a tile of any unit.
pub(super) const MAX_TILE: usize = 32;

/// Computes the signatures of a strip: of its windows if it has lines, otherwise of all its
/// positions, rounded up to whole tiles.
///
/// # Safety
/// The CPU has the features of `S`, and `P` is `S::GROUPS`. [`Strip::new`] has checked that all
/// reads are within the strip's data. `out` has room for whole tiles.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
pub(super) unsafe fn compute_strip<S: Simd, W: Words<S, P>, const P: usize>(
    strip: &Strip,
    matrix: &Packed,
    variant: Variant,
    out: &mut [u64],
) {
    // Differences from a mean need not be plain, even if the values are.
    let plain = W::USES_PLAIN
        && variant != Variant::Centred
        && matrix.plain
        && strip.is_check_cheap(matrix)
        && plain::are_values_plain(strip.readable());
    for (number, out_at) in tiles(strip, S::TILE) {
        let out = &mut out[out_at..out_at + S::TILE];
        // SAFETY: the strip's data reach one tile beyond the first element of its last position,
        // and `out` has the length of a tile.
        unsafe {
            let tile = Tile { from: strip.data.as_ptr().add(number), offsets: strip.offsets };
            let zero = [S::splat(&0.0); P];
            let mut words = W::new();
            match variant {
                Variant::Sign | Variant::SignRescale | Variant::SignMagnitude(_) => {
                    let first = variant.magnitude_bits();
                    if first > 0 {
                        words = W::from_low_bits(&compute_magnitudes::<S, P>(&tile, first));
                    }
                    if plain {
                        add_signs::<S, W, P, false, true>(&tile, zero, matrix, first, &mut words);
                    } else {
                        add_signs::<S, W, P, false, false>(&tile, zero, matrix, first, &mut words);
                    }
                }
                Variant::Centred => {
                    let means = compute_means::<S, P>(&tile);
                    add_signs::<S, W, P, true, false>(&tile, means, matrix, 0, &mut words);
                }
            }
            words.write(out.as_mut_ptr());
        }
    }
}

/// The start of each tile in a strip, and of its signatures in the result.
#[inline(always)]
#[expect(clippy::inline_always, reason = "as above")]
fn tiles(strip: &Strip, tile: usize) -> impl Iterator<Item = (usize, usize)> {
    // Either one row of all positions, or rows that are padded to a pitch. The last tile of such a
    // row may overlap the one before.
    let Lines { rows, pitch, columns } = strip.lines(tile);
    let last = columns.saturating_sub(tile);
    let row_tiles = move |row| {
        let starts = (0..columns).step_by(tile).map(move |start| start.min(last));
        starts.map(move |start| (row * pitch + start, row * columns + start))
    };
    (0..rows).flat_map(row_tiles)
}

/// `S::TILE` positions side by side: element e of position p is at `from + offsets[e] + p`.
struct Tile<'a> {
    from: *const f32,
    offsets: &'a [u32],
}

impl Tile<'_> {
    /// Loads an element of all positions.
    ///
    /// # Safety
    /// As [`compute_strip`]. `element` is below the number of offsets.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "as above")]
    unsafe fn load_element<S: Simd, const P: usize>(&self, element: usize) -> [S::F; P] {
        // SAFETY: the strip's data reach at least a tile beyond each offset, see `compute_strip`.
        unsafe {
            let from = self.from.add(*self.offsets.get_unchecked(element) as usize);
            std::array::from_fn(|group| S::load(from.add(group * S::LANES)))
        }
    }
}

/// Adds the signs of all blocks, from bit `first` up.
///
/// # Safety
/// As [`compute_strip`].
#[inline(always)]
#[expect(clippy::inline_always, reason = "as above")]
unsafe fn add_signs<S: Simd, W: Words<S, P>, const P: usize, const CENTRED: bool, const PLAIN: bool>(
    tile: &Tile,
    means: [S::F; P],
    matrix: &Packed,
    first: u32,
    words: &mut W,
) {
    let (mut rows, mut first) = (matrix.values.as_slice(), first);
    for &bits in &matrix.blocks {
        let (block, rest) = rows.split_at(tile.offsets.len() * bits);
        // SAFETY: the caller's guarantee; a block has a value for each element and bit.
        unsafe {
            match bits {
                1 => add_block_signs::<S, W, P, 1, CENTRED, PLAIN>(tile, means, block, first, words),
                2 => add_block_signs::<S, W, P, 2, CENTRED, PLAIN>(tile, means, block, first, words),
                3 => add_block_signs::<S, W, P, 3, CENTRED, PLAIN>(tile, means, block, first, words),
                4 => add_block_signs::<S, W, P, 4, CENTRED, PLAIN>(tile, means, block, first, words),
                5 => add_block_signs::<S, W, P, 5, CENTRED, PLAIN>(tile, means, block, first, words),
                6 => add_block_signs::<S, W, P, 6, CENTRED, PLAIN>(tile, means, block, first, words),
                7 => add_block_signs::<S, W, P, 7, CENTRED, PLAIN>(tile, means, block, first, words),
                8 => add_block_signs::<S, W, P, 8, CENTRED, PLAIN>(tile, means, block, first, words),
                9 => add_block_signs::<S, W, P, 9, CENTRED, PLAIN>(tile, means, block, first, words),
                10 => add_block_signs::<S, W, P, 10, CENTRED, PLAIN>(tile, means, block, first, words),
                11 => add_block_signs::<S, W, P, 11, CENTRED, PLAIN>(tile, means, block, first, words),
                12 => add_block_signs::<S, W, P, 12, CENTRED, PLAIN>(tile, means, block, first, words),
                _ => unreachable!("blocks have 1 to {} bits", S::BITS),
            }
        }
        rows = rest;
        first += bits as u32;
    }
}

/// Adds the `B` signs of one block.
///
/// # Safety
/// As [`compute_strip`]. `rows` is `[elements][B]`.
#[inline(always)]
#[expect(clippy::inline_always, reason = "as above")]
unsafe fn add_block_signs<
    S: Simd,
    W: Words<S, P>,
    const P: usize,
    const B: usize,
    const CENTRED: bool,
    const PLAIN: bool,
>(
    tile: &Tile,
    means: [S::F; P],
    rows: &[f32],
    first: u32,
    words: &mut W,
) {
    if B > S::BITS {
        unreachable!("blocks have at most {} bits", S::BITS);
    }
    // SAFETY: the caller's guarantee.
    unsafe {
        let mut sums = [[S::splat(&0.0); P]; B];
        for element in 0..tile.offsets.len() {
            let mut x = tile.load_element::<S, P>(element);
            if CENTRED {
                for (x, &mean) in x.iter_mut().zip(&means) {
                    *x = S::sub(*x, mean);
                }
            }
            let row = rows.as_ptr().add(element * B);
            for (bit, sums) in sums.iter_mut().enumerate() {
                let r = S::splat(row.add(bit));
                for (sum, &x) in sums.iter_mut().zip(&x) {
                    *sum = S::fma(x, r, *sum);
                }
            }
        }
        words.add::<B, PLAIN>(sums, first);
    }
}

/// Computes the mean of each vector: the sum from element 0 up, times 1 / length.
///
/// # Safety
/// As [`compute_strip`].
#[inline(always)]
#[expect(clippy::inline_always, reason = "as above")]
unsafe fn compute_means<S: Simd, const P: usize>(tile: &Tile) -> [S::F; P] {
    let share = 1.0 / tile.offsets.len() as f32;
    // SAFETY: the caller's guarantee.
    unsafe {
        let mut sums = [S::splat(&0.0); P];
        for element in 0..tile.offsets.len() {
            for (sum, x) in sums.iter_mut().zip(tile.load_element::<S, P>(element)) {
                *sum = S::add(*sum, x);
            }
        }
        sums.map(|sum| S::mul(sum, S::splat(&raw const share)))
    }
}

/// Computes the low `bits` bits of each vector's magnitude.
///
/// # Safety
/// As [`compute_strip`].
#[inline(always)]
#[expect(clippy::inline_always, reason = "as above")]
unsafe fn compute_magnitudes<S: Simd, const P: usize>(tile: &Tile, bits: u32) -> [u32; MAX_TILE] {
    let mut squares = [0.0f32; MAX_TILE];
    // SAFETY: the caller's guarantee; `squares` has room for any tile.
    unsafe {
        let mut sums = [S::splat(&0.0); P];
        for element in 0..tile.offsets.len() {
            for (sum, x) in sums.iter_mut().zip(tile.load_element::<S, P>(element)) {
                *sum = S::fma(x, x, *sum);
            }
        }
        for (group, &sum) in sums.iter().enumerate() {
            S::store(sum, squares.as_mut_ptr().add(group * S::LANES));
        }
    }
    squares.map(|square| super::compute_magnitude(square, bits))
}

/// Transposes `S::TILE` rows of `pitch` values to `pitch` rows of `S::TILE` values.
///
/// # Safety
/// The CPU has the features of `S`. `pitch` is a multiple of `S::LANES`, and both slices have at
/// least `S::TILE * pitch` values.
#[inline(always)]
#[expect(clippy::inline_always, reason = "as above")]
pub(super) unsafe fn transpose<S: Simd>(rows: &[f32], pitch: usize, columns: &mut [f32]) {
    debug_assert!(rows.len() >= S::TILE * pitch && columns.len() >= S::TILE * pitch);
    for column in (0..pitch).step_by(S::LANES) {
        for row in (0..S::TILE).step_by(S::LANES) {
            // SAFETY: both are squares of LANES rows, within the values that the caller guarantees.
            unsafe {
                let from = rows.as_ptr().add(row * pitch + column);
                S::transpose(from, pitch, columns.as_mut_ptr().add(column * S::TILE + row), S::TILE);
            }
        }
    }
}
