//! The kernel for many vectors, written once for all instruction sets: positions lie side by side
//! in registers, and so each element of R is read once for a whole tile of vectors.
//!
//! A sum is never split: each lane adds up the products of one vector and one bit, elements
//! ascending, and so has the bits of the scalar loop.

use super::{Lines, Packed, Strip, plain};
use crate::config::Variant;

/// A vector unit. All functions inline into one that is compiled for the unit's features.
///
/// # Safety
/// The functions may only be called on a machine that has the features of the unit, with pointers
/// to [`Simd::LANES`] values (to one for [`Simd::splat`]).
pub(super) trait Simd: Sized {
    /// A register of f32.
    type F: Copy;
    /// Values in a register.
    const LANES: usize;
    /// Bits that are accumulated together: as many as registers allow, with [`Self::GROUPS`]
    /// sums each.
    const BITS: usize;
    /// Registers of positions in a tile.
    const GROUPS: usize;
    /// Positions in a tile.
    const TILE: usize = Self::LANES * Self::GROUPS;
    /// Whether a bit is a sum below 0, as the signs of R's values are turned, or one above 0.
    const TURNED: bool;

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

/// The signatures of a tile, to which bits are added from bit 0 up, one after the other.
///
/// # Safety
/// As [`Simd`]; `P` is `S::GROUPS`.
pub(super) trait Words<S: Simd, const P: usize> {
    /// Whether [`Words::add`] takes less of plain sums than of any.
    const TELLS_PLAIN: bool;
    /// No bits yet.
    unsafe fn none() -> Self;
    /// The low bits of each position, 8 at most.
    unsafe fn of(low: &[u32; MAX_TILE]) -> Self;
    /// Adds the bits of `B` sums a position, from bit `first` up: set where a sum is below 0 if [`Simd::TURNED`],
    /// otherwise above 0 (and so never of -0 or NaN). Where `PLAIN`, all sums are zero (not -0), normal or infinite. No bit
    /// from `first` up is set yet, and there are 64 at most.
    unsafe fn add<const B: usize, const PLAIN: bool>(&mut self, sums: [[S::F; P]; B], first: u32);
    /// Writes a word for each position, [`Simd::TILE`] of them.
    unsafe fn write(&self, to: *mut u64);
}

/// Most positions of a tile of any unit.
pub(super) const MAX_TILE: usize = 32;

/// The signatures of a strip: of its windows if it has lines of them, otherwise of all its positions and
/// more, up to whole tiles.
///
/// # Safety
/// The machine has the features of `S`; `P` is `S::GROUPS`. [`Strip::new`] has checked that all
/// reads are within the strip's data, and `out` has room for whole tiles.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
pub(super) unsafe fn strip<S: Simd, W: Words<S, P>, const P: usize>(
    strip: &Strip,
    matrix: &Packed,
    variant: Variant,
    out: &mut [u64],
) {
    // Of differences from a mean nothing is known.
    let plain = W::TELLS_PLAIN
        && variant != Variant::Centred
        && matrix.plain
        && strip.pays_to_look(matrix)
        && plain::values(strip.readable());
    for (number, out_at) in tiles(strip, S::TILE) {
        let out = &mut out[out_at..out_at + S::TILE];
        // SAFETY: the strip's data reach one tile beyond the first element of its last position, and
        // `out` is of a tile.
        unsafe {
            let tile = Tile { from: strip.data.as_ptr().add(number), offsets: strip.offsets };
            let zero = [S::splat(&0.0); P];
            let mut words = W::none();
            match variant {
                Variant::Sign | Variant::SignRescale | Variant::SignMagnitude(_) => {
                    let first = variant.magnitude_bits();
                    if first > 0 {
                        words = W::of(&magnitudes::<S, P>(&tile, first));
                    }
                    if plain {
                        signs::<S, W, P, false, true>(&tile, zero, matrix, first, &mut words);
                    } else {
                        signs::<S, W, P, false, false>(&tile, zero, matrix, first, &mut words);
                    }
                }
                Variant::Centred => signs::<S, W, P, true, false>(&tile, means::<S, P>(&tile), matrix, 0, &mut words),
            }
            words.write(out.as_mut_ptr());
        }
    }
}

/// Where each tile begins in a strip, and where its signatures do in the result.
#[inline(always)]
#[expect(clippy::inline_always, reason = "as above")]
fn tiles(strip: &Strip, tile: usize) -> impl Iterator<Item = (usize, usize)> {
    // One row of all positions, or rows that are padded to a pitch, and whose last tile may overlap
    // the one before.
    let Lines { rows, pitch, columns } = strip.lines(tile);
    let last = columns.saturating_sub(tile);
    let of_row = move |row| {
        let starts = (0..columns).step_by(tile).map(move |start| start.min(last));
        starts.map(move |start| (row * pitch + start, row * columns + start))
    };
    (0..rows).flat_map(of_row)
}

/// `S::TILE` positions side by side: element e of position p is at `from + offsets[e] + p`.
struct Tile<'a> {
    from: *const f32,
    offsets: &'a [u32],
}

impl Tile<'_> {
    /// An element of all positions.
    ///
    /// # Safety
    /// As [`strip`]; `element` is below the number of offsets.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "as above")]
    unsafe fn element<S: Simd, const P: usize>(&self, element: usize) -> [S::F; P] {
        // SAFETY: offsets lie within the strip's data by at least a tile, see `strip`.
        unsafe {
            let from = self.from.add(*self.offsets.get_unchecked(element) as usize);
            std::array::from_fn(|group| S::load(from.add(group * S::LANES)))
        }
    }
}

/// Adds the signs, from bit `first` up.
///
/// # Safety
/// As [`strip`].
#[inline(always)]
#[expect(clippy::inline_always, reason = "as above")]
unsafe fn signs<S: Simd, W: Words<S, P>, const P: usize, const CENTRED: bool, const PLAIN: bool>(
    tile: &Tile,
    means: [S::F; P],
    matrix: &Packed,
    first: u32,
    words: &mut W,
) {
    let (mut rows, mut first) = (matrix.values.as_slice(), first);
    for &bits in &matrix.blocks {
        let (block, rest) = rows.split_at(tile.offsets.len() * bits);
        // SAFETY: as the caller; a block has a value for each element and bit.
        unsafe {
            match bits {
                1 => block_signs::<S, W, P, 1, CENTRED, PLAIN>(tile, means, block, first, words),
                2 => block_signs::<S, W, P, 2, CENTRED, PLAIN>(tile, means, block, first, words),
                3 => block_signs::<S, W, P, 3, CENTRED, PLAIN>(tile, means, block, first, words),
                4 => block_signs::<S, W, P, 4, CENTRED, PLAIN>(tile, means, block, first, words),
                5 => block_signs::<S, W, P, 5, CENTRED, PLAIN>(tile, means, block, first, words),
                6 => block_signs::<S, W, P, 6, CENTRED, PLAIN>(tile, means, block, first, words),
                7 => block_signs::<S, W, P, 7, CENTRED, PLAIN>(tile, means, block, first, words),
                8 => block_signs::<S, W, P, 8, CENTRED, PLAIN>(tile, means, block, first, words),
                9 => block_signs::<S, W, P, 9, CENTRED, PLAIN>(tile, means, block, first, words),
                10 => block_signs::<S, W, P, 10, CENTRED, PLAIN>(tile, means, block, first, words),
                11 => block_signs::<S, W, P, 11, CENTRED, PLAIN>(tile, means, block, first, words),
                12 => block_signs::<S, W, P, 12, CENTRED, PLAIN>(tile, means, block, first, words),
                _ => unreachable!("blocks have 1 to {} bits", S::BITS),
            }
        }
        rows = rest;
        first += bits as u32;
    }
}

/// The `B` bits of one block.
///
/// # Safety
/// As [`strip`]; `rows` is `[elements][B]`.
#[inline(always)]
#[expect(clippy::inline_always, reason = "as above")]
unsafe fn block_signs<
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
    // SAFETY: as the caller.
    unsafe {
        let mut sums = [[S::splat(&0.0); P]; B];
        for element in 0..tile.offsets.len() {
            let mut x = tile.element::<S, P>(element);
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

/// The mean of each vector: the sum from element 0 up, times 1 / length.
///
/// # Safety
/// As [`strip`].
#[inline(always)]
#[expect(clippy::inline_always, reason = "as above")]
unsafe fn means<S: Simd, const P: usize>(tile: &Tile) -> [S::F; P] {
    let share = 1.0 / tile.offsets.len() as f32;
    // SAFETY: as the caller.
    unsafe {
        let mut sums = [S::splat(&0.0); P];
        for element in 0..tile.offsets.len() {
            for (sum, x) in sums.iter_mut().zip(tile.element::<S, P>(element)) {
                *sum = S::add(*sum, x);
            }
        }
        sums.map(|sum| S::mul(sum, S::splat(&raw const share)))
    }
}

/// The low `bits` bits of each vector's magnitude.
///
/// # Safety
/// As [`strip`].
#[inline(always)]
#[expect(clippy::inline_always, reason = "as above")]
unsafe fn magnitudes<S: Simd, const P: usize>(tile: &Tile, bits: u32) -> [u32; MAX_TILE] {
    let mut squares = [0.0f32; MAX_TILE];
    // SAFETY: as the caller; `squares` has room for any tile.
    unsafe {
        let mut sums = [S::splat(&0.0); P];
        for element in 0..tile.offsets.len() {
            for (sum, x) in sums.iter_mut().zip(tile.element::<S, P>(element)) {
                *sum = S::fma(x, x, *sum);
            }
        }
        for (group, &sum) in sums.iter().enumerate() {
            S::store(sum, squares.as_mut_ptr().add(group * S::LANES));
        }
    }
    squares.map(|square| super::magnitude(square, bits))
}

/// Transposes `S::TILE` rows of `pitch` values to columns of as many.
///
/// # Safety
/// The machine has the features of `S`; `pitch` is a multiple of `S::LANES`, and both slices have
/// `S::TILE` times as many values.
#[inline(always)]
#[expect(clippy::inline_always, reason = "as above")]
pub(super) unsafe fn transpose<S: Simd>(rows: &[f32], pitch: usize, columns: &mut [f32]) {
    debug_assert!(rows.len() >= S::TILE * pitch && columns.len() >= S::TILE * pitch);
    for column in (0..pitch).step_by(S::LANES) {
        for row in (0..S::TILE).step_by(S::LANES) {
            // SAFETY: both are squares of whole rows within what the caller warrants.
            unsafe {
                let from = rows.as_ptr().add(row * pitch + column);
                S::transpose(from, pitch, columns.as_mut_ptr().add(column * S::TILE + row), S::TILE);
            }
        }
    }
}
