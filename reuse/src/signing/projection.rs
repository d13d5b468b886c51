//! The random projection matrix R and its signatures.

use crate::config::{MAX_BITS, Matrix, Rpq};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// R for vectors of one length: `bits` rows, of random entries or given from outside.
///
/// Rows are drawn in order, so a shorter signature uses the first rows of a longer one. The
/// signature of b bits is a prefix (the low b bits) of the signature of 64 bits.
///
/// All entries come from the uniform 64-bit words of a `ChaCha8` stream. Its key is the seed in
/// little-endian bytes, followed by zeros.
///
/// [`Matrix::Gaussian`], N(0, 1): the stream number is the length of the vectors. Entries `e` are
/// counted along rows that are padded to even length. Each comes from words `2 (e / 2)` and
/// `2 (e / 2) + 1`. Let u = ((word >> 11) + 1) / 2^53 for the first word, and v = (word >> 11) /
/// 2^53 for the second. The Box-Muller pair is `sqrt(-2 ln u) (cos 2πv, sin 2πv)`. An even `e` takes the first
/// value, an odd `e` the second, rounded to f32. (So a row of odd length leaves the second value of
/// its last pair unused.) The functions come from the libm crate, so that every machine draws the
/// same matrix.
///
/// [`Matrix::Sparse`], -1, 0 and +1 with probabilities 1/6, 2/3 and 1/6: the stream number is the
/// length of the vectors plus 2^63. Entry `e`, counted along rows, comes from word `e`. With
/// k = 6 word / 2^64, rounded down, it is -1 for k = 0, +1 for k = 5, and otherwise 0. The product
/// with such an entry costs an addition or nothing, and the hardware model counts it so.
#[derive(Debug, Clone, PartialEq)]
pub struct Projection {
    length: usize,
    bits: u32,
    rows: Vec<f32>,
}

impl Projection {
    /// Draws a gaussian R for vectors of `length` elements and signatures of `bits` bits.
    ///
    /// # Panics
    /// If `length` is 0 or `bits` is not within 1 to 64.
    pub fn new(seed: u64, length: usize, bits: u32) -> Self {
        Self::draw(seed, length, bits, &Matrix::Gaussian)
    }

    /// Draws the R of a configuration for vectors of `length` elements, or takes it from the matrices that the
    /// configuration gives.
    ///
    /// # Panics
    /// As [`Projection::new`], or if the matrix is from a file that was not read or that has none for this length or
    /// number of bits. A configuration that was checked against the layers has them.
    pub fn from_rpq(rpq: &Rpq, length: usize) -> Self {
        let Matrix::Given(given) = &rpq.projection else {
            return Self::draw(rpq.seed, length, rpq.bits, &rpq.projection);
        };
        let rows = given.select_rows(rpq.granularity, length, rpq.bits);
        Self::from_rows(length, rpq.bits, rows.unwrap_or_else(|| panic!("{given} has no tensor of length {length}")))
    }

    /// Takes R as its rows, one after the other: `[bits][length]`.
    ///
    /// # Panics
    /// If there is another number of values, `length` is 0 or `bits` is not within 1 to 64.
    pub fn from_rows(length: usize, bits: u32, rows: Vec<f32>) -> Self {
        check_size(length, bits);
        assert_eq!(rows.len(), length * bits as usize, "values of {bits} rows of {length}");
        Self { length, bits, rows }
    }

    fn draw(seed: u64, length: usize, bits: u32, matrix: &Matrix) -> Self {
        check_size(length, bits);
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(key);
        let mut rows = Vec::with_capacity(bits as usize * length);
        match matrix {
            Matrix::Gaussian => {
                rng.set_stream(length as u64);
                for _ in 0..bits {
                    for start in (0..length).step_by(2) {
                        let pair = draw_normal_pair(&mut rng);
                        rows.extend_from_slice(&pair[..(length - start).min(2)]);
                    }
                }
            }
            Matrix::Sparse => {
                rng.set_stream(length as u64 | 1 << 63);
                rows.extend((0..bits as usize * length).map(|_| draw_sparse(&mut rng)));
            }
            Matrix::File(_) | Matrix::Given(_) => panic!("{matrix} is not drawn, and a file is read before its use"),
        }
        Self { length, bits, rows }
    }

    /// Length of the vectors.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Signature length.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// Row `bit` of R.
    pub fn row(&self, bit: u32) -> &[f32] {
        &self.rows[bit as usize * self.length..][..self.length]
    }

    /// Computes the signature of a vector by the scalar loop that defines it: bit i is set if
    /// <x, `row(i)`> > 0.
    ///
    /// The dot product accumulates in f32 by fused multiply-add, from element 0 up.
    ///
    /// ```
    /// use mercury_reuse::Projection;
    /// let x = [0.5, -1.0, 2.0];
    /// let long = Projection::new(1, 3, 64).signature_scalar(&x);
    /// assert_eq!(Projection::new(1, 3, 20).signature_scalar(&x), long & 0xF_FFFF);
    /// ```
    ///
    /// # Panics
    /// If the vector does not have `length()` elements.
    pub fn signature_scalar(&self, vector: &[f32]) -> u64 {
        assert_eq!(vector.len(), self.length, "length of the vector");
        (0..self.bits).fold(0, |signature, bit| {
            let dot = vector.iter().zip(self.row(bit)).fold(0.0f32, |sum, (x, r)| x.mul_add(*r, sum));
            signature | (u64::from(dot > 0.0) << bit)
        })
    }
}

fn check_size(length: usize, bits: u32) {
    assert!(length > 0 && (1..=MAX_BITS).contains(&bits), "length {length}, {bits} bits");
}

fn draw_normal_pair(rng: &mut ChaCha8Rng) -> [f32; 2] {
    const SCALE: f64 = 1.0 / (1u64 << 53) as f64;
    let u = ((rng.next_u64() >> 11) + 1) as f64 * SCALE;
    let v = (rng.next_u64() >> 11) as f64 * SCALE;
    let radius = libm::sqrt(-2.0 * libm::log(u));
    let (sin, cos) = libm::sincos(std::f64::consts::TAU * v);
    [(radius * cos) as f32, (radius * sin) as f32]
}

fn draw_sparse(rng: &mut ChaCha8Rng) -> f32 {
    match (u128::from(rng.next_u64()) * 6) >> 64 {
        0 => -1.0,
        5 => 1.0,
        _ => 0.0,
    }
}
