//! Signature kernels, and the choice of one that the CPU has.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod block;
mod halves;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod neon;
mod plain;
mod scalar;

use crate::config::Variant;
#[cfg(any(target_arch = "x86_64", all(target_arch = "aarch64", target_endian = "little")))]
use crate::cpu::{Instructions, may_use};
use crate::signing::projection::Projection;
use std::fmt;

/// A kernel that this CPU can run. All kernels give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel(Unit);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX-512 with VBMI2, which can shift one register into another.
    #[cfg(target_arch = "x86_64")]
    Avx512Vbmi2,
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    Neon,
}

/// Calls a function of the unit's module.
macro_rules! dispatch {
    ($kernel:expr, $function:ident($($argument:expr),*)) => {
        // SAFETY: a `Kernel` exists only for a unit that this CPU has. The caller guarantees the
        // rest.
        match $kernel.0 {
            // SAFETY: see above.
            Unit::Scalar => unsafe { scalar::$function($($argument),*) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: see above.
            Unit::Avx2 => unsafe { avx2::$function($($argument),*) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: see above.
            Unit::Avx512 => unsafe { avx512::foundation::$function($($argument),*) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: see above.
            Unit::Avx512Vbmi2 => unsafe { avx512::vbmi2::$function($($argument),*) },
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            // SAFETY: see above.
            Unit::Neon => unsafe { neon::$function($($argument),*) },
        }
    };
}

impl Kernel {
    /// The kernels that this CPU has and [`crate::cpu`] allows, the fastest first.
    pub fn available() -> Vec<Self> {
        let mut kernels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        if may_use(Instructions::Avx2) {
            if may_use(Instructions::Avx512) {
                if std::arch::is_x86_feature_detected!("avx512vbmi2") {
                    kernels.push(Self(Unit::Avx512Vbmi2));
                }
                kernels.push(Self(Unit::Avx512));
            }
            kernels.push(Self(Unit::Avx2));
        }
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        if may_use(Instructions::Neon) {
            kernels.push(Self(Unit::Neon));
        }
        kernels.push(Self(Unit::Scalar));
        kernels
    }

    /// The fastest kernel.
    pub fn best() -> Self {
        Self::available()[0]
    }

    /// Positions that are processed at once.
    pub(crate) fn tile(self) -> usize {
        match self.0 {
            Unit::Scalar => scalar::TILE,
            #[cfg(target_arch = "x86_64")]
            Unit::Avx2 => avx2::TILE,
            #[cfg(target_arch = "x86_64")]
            Unit::Avx512 | Unit::Avx512Vbmi2 => avx512::TILE,
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Unit::Neon => neon::TILE,
        }
    }

    /// Most bits that are processed at once.
    fn bits(self) -> usize {
        match self.0 {
            Unit::Scalar => scalar::BITS,
            #[cfg(target_arch = "x86_64")]
            Unit::Avx2 => avx2::BITS,
            #[cfg(target_arch = "x86_64")]
            Unit::Avx512 | Unit::Avx512Vbmi2 => avx512::BITS,
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Unit::Neon => neon::BITS,
        }
    }

    /// Whether the kernel takes R negated.
    fn is_negated(self) -> bool {
        match self.0 {
            Unit::Scalar => scalar::NEGATED,
            #[cfg(target_arch = "x86_64")]
            Unit::Avx2 => avx2::NEGATED,
            #[cfg(target_arch = "x86_64")]
            Unit::Avx512 | Unit::Avx512Vbmi2 => avx512::NEGATED,
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Unit::Neon => neon::NEGATED,
        }
    }

    /// Computes the signatures of a strip and writes them to the front of `out`: of its windows if
    /// it has lines, otherwise of its positions, rounded up to a whole tile.
    ///
    /// # Panics
    /// If a line is shorter than a tile, `out` is shorter than the result, or the matrix is for
    /// another kernel or another length of vectors.
    pub(crate) fn compute_strip(self, strip: &Strip, matrix: &Packed, variant: Variant, out: &mut [u64]) {
        assert_eq!((matrix.kernel, matrix.length), (self, strip.offsets.len()), "matrix of the kernel and length");
        let Lines { rows, columns, .. } = strip.lines(self.tile());
        assert!(columns >= self.tile() && out.len() >= rows * columns, "room for whole tiles");
        dispatch!(self, compute_strip(strip, matrix, variant, out));
    }

    /// Transposes a tile of rows of `pitch` values.
    ///
    /// # Panics
    /// If `pitch` is not a multiple of 16, or a slice has fewer values than a tile.
    pub(crate) fn transpose(self, rows: &[f32], pitch: usize, columns: &mut [f32]) {
        assert_eq!(pitch % 16, 0, "whole registers");
        assert!(rows.len() >= self.tile() * pitch && columns.len() >= self.tile() * pitch, "values of a tile");
        dispatch!(self, transpose(rows, pitch, columns));
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Unit::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Unit::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Unit::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Unit::Avx512Vbmi2 => "avx512vbmi2",
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Unit::Neon => "neon",
        })
    }
}

/// Positions of the largest tile. Strips and their signatures are padded to a multiple of it.
pub(crate) const MAX_TILE: usize = block::MAX_TILE;

/// Vectors side by side: element e of the vector at position q is `data[offsets[e] + q]`.
pub(crate) struct Strip<'a> {
    data: &'a [f32],
    offsets: &'a [u32],
    last: u32,
    slots: usize,
    lines: Option<Lines>,
}

/// The windows of a strip: in each of `rows` rows of `pitch` positions, the first `columns`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lines {
    pub(crate) rows: usize,
    pub(crate) pitch: usize,
    pub(crate) columns: usize,
}

impl<'a> Strip<'a> {
    /// A strip of the first `slots` positions. `last` is the largest offset.
    ///
    /// # Panics
    /// If an offset is above `last`, or the data do not hold the positions, rounded up to a
    /// multiple of [`MAX_TILE`], at that offset.
    pub(crate) fn new(data: &'a [f32], offsets: &'a [u32], last: u32, slots: usize) -> Self {
        assert!(offsets.iter().all(|&offset| offset <= last), "largest offset");
        assert!(data.len() >= last as usize + slots.next_multiple_of(MAX_TILE), "values of whole tiles");
        Self { data, offsets, last, slots, lines: None }
    }

    /// The same strip, limited to these windows. Their signatures are contiguous in the result.
    ///
    /// # Panics
    /// If the lines reach beyond the positions.
    pub(crate) fn with_lines(self, lines: Lines) -> Self {
        let Lines { rows, pitch, columns } = lines;
        assert!(columns <= pitch && (rows - 1) * pitch + columns <= self.slots, "lines within the positions");
        Self { lines: Some(lines), ..self }
    }

    /// The lines for tiles of a size: those of the strip, or else one line of all positions.
    fn lines(&self, tile: usize) -> Lines {
        let slots = self.slots.next_multiple_of(tile);
        self.lines.unwrap_or(Lines { rows: 1, pitch: slots, columns: slots })
    }

    /// The data that a kernel may read.
    fn readable(&self) -> &[f32] {
        &self.data[..self.last as usize + self.padded_slots()]
    }

    /// Whether there are so many more sums than values that checking each value first costs little.
    fn is_check_cheap(&self, matrix: &Packed) -> bool {
        self.readable().len() * 4 <= self.slots * matrix.bits()
    }

    /// The number of positions, rounded up to whole tiles of any kernel.
    pub(crate) fn padded_slots(&self) -> usize {
        self.slots.next_multiple_of(MAX_TILE)
    }
}

/// R in the layout of a kernel: blocks of bits, each `[elements][bits]`. With
/// [`Kernel::is_negated`] all values are negated. A bit then is set if the sum is below 0, which is
/// its sign bit (except for zeros and NaN). Rounding to nearest is symmetric about 0, so the
/// signatures are the same.
pub(crate) struct Packed {
    kernel: Kernel,
    length: usize,
    /// Bits of each block.
    blocks: Vec<usize>,
    values: Vec<f32>,
    /// Whether all values are plain, see [`plain`].
    plain: bool,
}

impl Packed {
    pub(crate) fn new(kernel: Kernel, projection: &Projection) -> Self {
        let (length, bits) = (projection.length(), projection.bits() as usize);
        // Blocks have nearly equal sizes, because a small block does not hide the latency of its
        // sums.
        let count = bits.div_ceil(kernel.bits());
        let blocks: Vec<usize> = (0..count).map(|block| (bits + block) / count).collect();
        let mut values = Vec::with_capacity(length * bits);
        let mut first = 0;
        for &block in &blocks {
            for element in 0..length {
                let row = (first..first + block).map(|bit| projection.row(bit as u32)[element]);
                values.extend(row.map(|value| if kernel.is_negated() { -value } else { value }));
            }
            first += block;
        }
        let plain = plain::is_matrix_plain(&values);
        Self { kernel, length, blocks, values, plain }
    }

    /// Bits of a signature.
    fn bits(&self) -> usize {
        self.blocks.iter().sum()
    }

    /// Number of values.
    pub(crate) fn size(&self) -> usize {
        self.values.len()
    }
}

/// Computes the low `bits` bits of floor(log2 |x|) + 64 from `square` = |x|^2. With the biased
/// exponent E of the square it is (E + 1) / 2, rounded down. It is 0 if the square is below 2^-126,
/// as for a zero vector.
pub(crate) fn compute_magnitude(square: f32, bits: u32) -> u32 {
    let exponent = (square.to_bits() >> 23) & 0xFF;
    ((exponent + 1) >> 1) & ((1 << bits) - 1)
}
