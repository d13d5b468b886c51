//! Products of matrices in memory.

use gemm::Parallelism;

/// A matrix of `rows x columns` whose neighbours in a column and in a row are `strides` apart.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    strides: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// A matrix that lies row by row.
    ///
    /// # Panics
    /// If there are fewer values.
    pub fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert!(values.len() >= rows * columns, "values of a matrix");
        Self { values, rows, columns, strides: [columns, 1] }
    }

    /// The transposed matrix, in the same memory.
    pub fn transposed(self) -> Self {
        let [down, right] = self.strides;
        Self { rows: self.columns, columns: self.rows, strides: [right, down], ..self }
    }
}

/// Writes the product of two matrices, row by row, or adds it to what is there.
///
/// # Panics
/// If sizes do not fit.
pub fn multiply(left: Matrix, right: Matrix, adds: bool, out: &mut [f32]) {
    let (rows, inner, columns) = (left.rows, left.columns, right.columns);
    assert_eq!(inner, right.rows, "inner sizes of a product");
    assert!(out.len() >= rows * columns, "room for a product");
    let threads = rayon::current_num_threads();
    let parallelism = if threads > 1 { Parallelism::Rayon(threads) } else { Parallelism::None };
    let strides = |matrix: Matrix| matrix.strides.map(|stride| stride as isize);
    let ([left_down, left_right], [right_down, right_right]) = (strides(left), strides(right));
    // SAFETY: the sizes were checked when the matrices were made and above; `out` is not one of them, because it is
    // borrowed mutably.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            out.as_mut_ptr(),
            1,
            columns as isize,
            adds,
            left.values.as_ptr(),
            left_right,
            left_down,
            right.values.as_ptr(),
            right_right,
            right_down,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_sums() {
        let left: Vec<f32> = (0..6).map(|i| i as f32).collect();
        let right: Vec<f32> = (0..12).map(|i| (i % 5) as f32).collect();
        let mut out = vec![1.0; 8];
        multiply(Matrix::new(&left, 2, 3), Matrix::new(&right, 3, 4), true, &mut out);
        let expected =
            |row: usize, column: usize| (0..3).map(|i| left[row * 3 + i] * right[i * 4 + column]).sum::<f32>() + 1.0;
        assert_eq!(out, (0..8).map(|i| expected(i / 4, i % 4)).collect::<Vec<_>>());
        let mut transposed = vec![0.0; 8];
        multiply(Matrix::new(&right, 3, 4).transposed(), Matrix::new(&left, 2, 3).transposed(), false, &mut transposed);
        assert_eq!(transposed, (0..8).map(|i| expected(i % 2, i / 2) - 1.0).collect::<Vec<_>>());
    }
}
