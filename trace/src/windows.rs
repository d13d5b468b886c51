//! The walk of a kernel over a plane: the positions of vectors and the taps of each.

/// One axis (rows or columns) of a [`Windows`] grid.
///
/// Tap `j` at position `t` is at the plane's coordinate `origin + t * stride + j * step`. In
/// padding, this is outside the plane, and the value is zero. The tap is multiplied by the kernel's
/// element `kernel_first + j * kernel_step`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axis {
    /// Number of positions.
    pub positions: u32,
    /// Coordinates from one position to the next.
    pub stride: u32,
    /// Coordinate of tap 0 at position 0; negative in padding.
    pub origin: i64,
    /// Number of taps.
    pub taps: u32,
    /// Coordinates from one tap to the next.
    pub step: u32,
    /// Kernel element of tap 0.
    pub kernel_first: u32,
    /// Kernel elements from one tap to the next; negative if the kernel is rotated.
    pub kernel_step: i32,
}

impl Axis {
    /// Describes the forward pass of a convolution along one axis with `positions` outputs.
    pub fn forward(positions: u32, kernel: u32, stride: u32, padding: u32, dilation: u32) -> Self {
        Self {
            positions,
            stride,
            origin: -i64::from(padding),
            taps: kernel,
            step: dilation,
            kernel_first: 0,
            kernel_step: 1,
        }
    }

    /// Describes the input gradient of a convolution along one axis as stride-1 walks over the
    /// output gradient, one for each residue of the input coordinate modulo the stride.
    ///
    /// The input coordinate `h` receives `W[r] * dY[y]` for every `r`, `y` with
    /// `h = y * stride - padding + r * dilation`. For `h = a + stride * t` only the kernel elements
    /// with `r * dilation = a + padding (mod stride)` take part; they are `stride / gcd` apart.
    /// The split by `a` thus avoids multiplications with the zeros of a dilated `dY`.
    /// Residues without a kernel element have no walk, because their gradient is zero.
    pub fn input_grad(input: u32, kernel: u32, stride: u32, padding: u32, dilation: u32) -> Vec<Self> {
        let gcd = gcd(stride, dilation);
        let (kernel_step, step) = (stride / gcd, dilation / gcd);
        let mut walks = Vec::new();
        for residue in 0..stride.min(input) {
            let shifted = u64::from(residue) + u64::from(padding);
            let meets =
                |r: u32| (u64::from(r) * u64::from(dilation)) % u64::from(stride) == shifted % u64::from(stride);
            let Some(first) = (0..kernel.min(kernel_step)).find(|&r| meets(r)) else {
                continue;
            };
            let taps = (kernel - first).div_ceil(kernel_step);
            // The division is exact, because the difference is a multiple of the stride.
            let nearest = (shifted as i64 - i64::from(first) * i64::from(dilation)) / i64::from(stride);
            walks.push(Self {
                positions: (input - residue).div_ceil(stride),
                stride: 1,
                origin: nearest - i64::from(taps - 1) * i64::from(step),
                taps,
                step,
                kernel_first: first + (taps - 1) * kernel_step,
                kernel_step: -(kernel_step as i32),
            });
        }
        walks
    }

    /// Returns the input coordinate of the first position in a walk of [`Axis::input_grad`];
    /// further ones are `stride` apart.
    pub fn residue(&self, stride: u32, padding: u32, dilation: u32) -> u32 {
        let last = self.taps - 1;
        let nearest = self.origin + i64::from(last) * i64::from(self.step);
        let at = nearest * i64::from(stride) + self.kernel_element(last) as i64 * i64::from(dilation);
        (at - i64::from(padding)) as u32
    }

    /// Returns the plane's coordinate at a position and tap; `None` in padding.
    #[inline]
    pub fn coordinate(&self, position: u32, tap: u32, size: u32) -> Option<usize> {
        let at = self.origin + i64::from(position) * i64::from(self.stride) + i64::from(tap) * i64::from(self.step);
        (0..i64::from(size)).contains(&at).then_some(at as usize)
    }

    /// Returns the plane's coordinate at a position and the first tap, if all taps are inside the
    /// plane.
    ///
    /// The axis must have taps.
    #[inline]
    pub fn first_inside(&self, position: u32, size: u32) -> Option<usize> {
        let first = self.origin + i64::from(position) * i64::from(self.stride);
        let last = first + i64::from(self.taps - 1) * i64::from(self.step);
        (first >= 0 && last < i64::from(size)).then_some(first as usize)
    }

    /// Returns the kernel element of a tap.
    #[inline]
    pub fn kernel_element(&self, tap: u32) -> usize {
        (i64::from(self.kernel_first) + i64::from(tap) * i64::from(self.kernel_step)) as usize
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A grid of windows over a plane, with one input vector of a channel per position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Rows of the plane.
    pub y: Axis,
    /// Columns of the plane.
    pub x: Axis,
}

impl Windows {
    /// Number of windows on a plane.
    pub fn positions(&self) -> usize {
        self.y.positions as usize * self.x.positions as usize
    }

    /// Number of elements of a window.
    pub fn taps(&self) -> usize {
        self.y.taps as usize * self.x.taps as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Every (input, kernel element, output) triple of the convolution is in exactly one walk.
        #[test]
        fn input_grad_walks_cover_the_transposed_convolution(
            input in 1u32..20, kernel in 1u32..6, stride in 1u32..5, padding in 0u32..4, dilation in 1u32..4,
        ) {
            let reach = dilation * (kernel - 1) + 1;
            prop_assume!(input + 2 * padding >= reach);
            let output = (input + 2 * padding - reach) / stride + 1;
            let mut expected = Vec::new();
            for y in 0..output {
                for r in 0..kernel {
                    let h = i64::from(y * stride + r * dilation) - i64::from(padding);
                    if (0..i64::from(input)).contains(&h) {
                        expected.push((h as usize, r as usize, y as usize));
                    }
                }
            }
            let mut found = Vec::new();
            for walk in Axis::input_grad(input, kernel, stride, padding, dilation) {
                let residue = walk.residue(stride, padding, dilation);
                prop_assert!(residue < stride);
                for t in 0..walk.positions {
                    for j in 0..walk.taps {
                        if let Some(y) = walk.coordinate(t, j, output) {
                            let r = walk.kernel_element(j);
                            let h = (y as i64) * i64::from(stride) - i64::from(padding) + (r as i64) * i64::from(dilation);
                            prop_assert_eq!(h, i64::from(residue) + i64::from(t) * i64::from(stride));
                            found.push((h as usize, r, y));
                        }
                    }
                }
            }
            expected.sort_unstable();
            found.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}
