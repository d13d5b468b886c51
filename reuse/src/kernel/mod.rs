//! Signature kernels, and the choice among those that the machine has.

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
use crate::projection::Projection;
use std::fmt;

/// A kernel that the machine can run; all give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel(Unit);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX-512 that can also shift registers into one another.
    #[cfg(target_arch = "x86_64")]
    Avx512Vbmi2,
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    Neon,
}

/// Calls a function of the unit's module, which is what [`Kernel`]'s existence allows.
macro_rules! dispatch {
    ($kernel:expr, $function:ident($($argument:expr),*)) => {
        // SAFETY: there is a `Kernel` only of a unit that the machine has; the caller warrants the rest.
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
    /// The kernels that this machine has and [`crate::cpu`] allows, the fastest first.
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

    /// The fastest.
    pub fn best() -> Self {
        Self::available()[0]
    }

    /// Positions that are done at once.
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

    /// Most bits that are done at once.
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

    /// Whether it takes R with its signs turned.
    fn turned(self) -> bool {
        match self.0 {
            Unit::Scalar => scalar::TURNED,
            #[cfg(target_arch = "x86_64")]
            Unit::Avx2 => avx2::TURNED,
            #[cfg(target_arch = "x86_64")]
            Unit::Avx512 | Unit::Avx512Vbmi2 => avx512::TURNED,
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Unit::Neon => neon::TURNED,
        }
    }

    /// The signatures of a strip's windows, if it has lines of them, otherwise of its positions, to the
    /// front of `out`. The latter fill it up to a whole tile.
    ///
    /// # Panics
    /// If `out` or a line is shorter than whole tiles, or the matrix is not this kernel's and of the strip's length.
    pub(crate) fn strip(self, strip: &Strip, matrix: &Packed, variant: Variant, out: &mut [u64]) {
        assert_eq!((matrix.kernel, matrix.length), (self, strip.offsets.len()), "matrix of the kernel and length");
        let Lines { rows, columns, .. } = strip.lines(self.tile());
        assert!(columns >= self.tile() && out.len() >= rows * columns, "room for whole tiles");
        dispatch!(self, strip(strip, matrix, variant, out));
    }

    /// Transposes a tile of rows, each of `pitch` values, a multiple of 16.
    ///
    /// # Panics
    /// If the slices do not have as many values.
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

/// Positions of the largest tile: strips and their signatures are padded to a multiple of it.
pub(crate) const MAX_TILE: usize = block::MAX_TILE;

/// Vectors side by side: element e of the vector at position q is `data[offsets[e] + q]`.
pub(crate) struct Strip<'a> {
    data: &'a [f32],
    offsets: &'a [u32],
    last: u32,
    slots: usize,
    lines: Option<Lines>,
}

/// Windows of a strip, row by row: `columns` of each `pitch` positions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lines {
    pub(crate) rows: usize,
    pub(crate) pitch: usize,
    pub(crate) columns: usize,
}

impl<'a> Strip<'a> {
    /// The first `slots` positions; `last` is the largest offset.
    ///
    /// # Panics
    /// If an offset is above `last`, or the data do not reach a whole tile beyond the positions.
    pub(crate) fn new(data: &'a [f32], offsets: &'a [u32], last: u32, slots: usize) -> Self {
        assert!(offsets.iter().all(|&offset| offset <= last), "largest offset");
        assert!(data.len() >= last as usize + slots.next_multiple_of(MAX_TILE), "values of whole tiles");
        Self { data, offsets, last, slots, lines: None }
    }

    /// The same, of which only these windows are wanted: their signatures then lie one after another.
    ///
    /// # Panics
    /// If the lines reach beyond the positions.
    pub(crate) fn with_lines(self, lines: Lines) -> Self {
        let Lines { rows, pitch, columns } = lines;
        assert!(columns <= pitch && (rows - 1) * pitch + columns <= self.slots, "lines within the positions");
        Self { lines: Some(lines), ..self }
    }

    /// The lines in which tiles of a size are laid.
    fn lines(&self, tile: usize) -> Lines {
        let slots = self.slots.next_multiple_of(tile);
        self.lines.unwrap_or(Lines { rows: 1, pitch: slots, columns: slots })
    }

    /// What a kernel may read of the data.
    fn readable(&self) -> &[f32] {
        &self.data[..self.last as usize + self.padded_slots()]
    }

    /// Whether there are so many more sums than values that to look at each value first costs little.
    fn pays_to_look(&self, matrix: &Packed) -> bool {
        self.readable().len() * 4 <= self.slots * matrix.bits()
    }

    /// Positions up to a whole tile of any kernel.
    pub(crate) fn padded_slots(&self) -> usize {
        self.slots.next_multiple_of(MAX_TILE)
    }
}

/// R as a kernel reads it: blocks of bits, each `[elements][bits]`. Where [`Kernel::turned`], signs are turned,
/// so that a bit is a sum below 0, and with that (but for zeros and NaN) the number's own sign bit: rounding to
/// nearest is the same on both sides of 0.
pub(crate) struct Packed {
    kernel: Kernel,
    length: usize,
    /// Bits of each block.
    blocks: Vec<usize>,
    values: Vec<f32>,
    /// Whether its sums with plain values can be neither -0, NaN nor subnormal: see [`plain`].
    plain: bool,
}

impl Packed {
    pub(crate) fn new(kernel: Kernel, projection: &Projection) -> Self {
        let (length, bits) = (projection.length(), projection.bits() as usize);
        // Blocks as alike as can be: a small one does not hide the latency of its sums.
        let count = bits.div_ceil(kernel.bits());
        let blocks: Vec<usize> = (0..count).map(|block| (bits + block) / count).collect();
        let mut values = Vec::with_capacity(length * bits);
        let mut first = 0;
        for &block in &blocks {
            for element in 0..length {
                let row = (first..first + block).map(|bit| projection.row(bit as u32)[element]);
                values.extend(row.map(|value| if kernel.turned() { -value } else { value }));
            }
            first += block;
        }
        let plain = plain::matrix(&values);
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

/// The low `bits` bits of floor(log2 |x|) + 64, of the x whose square is `square`: with the square's biased
/// exponent E, (E + 1) / 2 rounded down. 0 where the square is below 2^-126, as of a zero vector.
pub(crate) fn magnitude(square: f32, bits: u32) -> u32 {
    let exponent = (square.to_bits() >> 23) & 0xFF;
    ((exponent + 1) >> 1) & ((1 << bits) - 1)
}
