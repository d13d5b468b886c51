//! Rows, a value for each kernel, from the kernels' planes and back.

/// Positions at a time, so that their rows stay in the first-level cache while the planes are walked.
const POSITIONS: usize = 16;

/// Writes planes, `[kernels][positions]`, as rows, `[positions][width]`; values of a row beyond the kernels are left.
pub fn write_rows(planes: &[f32], positions: usize, rows: &mut [f32], width: usize) {
    for (block, rows) in rows.chunks_mut(POSITIONS * width).enumerate() {
        for (kernel, plane) in planes.chunks_exact(positions).enumerate() {
            let values = rows[kernel..].iter_mut().step_by(width);
            values.zip(&plane[block * POSITIONS..]).for_each(|(value, &from)| *value = from);
        }
    }
}

/// Writes rows, `[positions][width]`, as planes, `[kernels][positions]`.
pub fn write_planes(rows: &[f32], width: usize, planes: &mut [f32], positions: usize) {
    for (block, rows) in rows.chunks(POSITIONS * width).enumerate() {
        for (kernel, plane) in planes.chunks_exact_mut(positions).enumerate() {
            let values = rows[kernel..].iter().step_by(width);
            plane[block * POSITIONS..].iter_mut().zip(values).for_each(|(value, &from)| *value = from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_the_transposed_planes() {
        for (kernels, positions, width) in [(1, 1, 16), (16, 16, 16), (18, 35, 32), (33, 70, 48)] {
            let planes: Vec<f32> = (1..=kernels * positions).map(|value| value as f32).collect();
            let mut rows = vec![-1.0; positions * width];
            write_rows(&planes, positions, &mut rows, width);
            let expected = (0..positions * width).map(|place| {
                let (position, kernel) = (place / width, place % width);
                if kernel < kernels { planes[kernel * positions + position] } else { -1.0 }
            });
            assert_eq!(rows, expected.collect::<Vec<f32>>(), "{kernels} kernels");
            let mut back = vec![0.0; planes.len()];
            write_planes(&rows, width, &mut back, positions);
            assert_eq!(back, planes, "{kernels} kernels");
        }
    }
}
