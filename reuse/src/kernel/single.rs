//! The kernel for one vector alone: its bits side by side, each accumulated in element order.

/// Bits that are accumulated together.
pub(crate) const BLOCK: usize = 16;

/// Bits rounded up to whole blocks.
pub(crate) fn padded_bits(bits: u32) -> usize {
    (bits as usize).next_multiple_of(BLOCK)
}

/// Signature of `vector`; `columns` is `[vector.len()][padded_bits(bits)]`.
pub(crate) fn signature(vector: &[f32], columns: &[f32], bits: u32) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        // SAFETY: the processor has the two features that the function is compiled for.
        return unsafe { signature_fma(vector, columns, bits) };
    }
    signature_blocks(vector, columns, bits)
}

/// The same code, compiled with fused multiply-add as an instruction instead of a library call.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn signature_fma(vector: &[f32], columns: &[f32], bits: u32) -> u64 {
    signature_blocks(vector, columns, bits)
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
fn signature_blocks(vector: &[f32], columns: &[f32], bits: u32) -> u64 {
    let padded = padded_bits(bits);
    let mut signature = 0;
    for block in (0..bits as usize).step_by(BLOCK) {
        let mut sums = [0.0f32; BLOCK];
        for (&x, column) in vector.iter().zip(columns.chunks_exact(padded)) {
            for (sum, &r) in sums.iter_mut().zip(&column[block..block + BLOCK]) {
                *sum = x.mul_add(r, *sum);
            }
        }
        for (bit, &sum) in sums.iter().enumerate() {
            signature |= u64::from(sum > 0.0) << (block + bit);
        }
    }
    // Padding columns are zero, so their sums are never above it.
    signature
}
