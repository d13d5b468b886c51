//! Planes for tests and benches.

/// Makes smooth planes with a little noise, `[samples][channels][size][size]`.
pub fn make_planes(samples: usize, channels: usize, size: usize, relu: bool) -> Vec<f32> {
    let mut state = 7u64;
    let mut noise = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let mut values = Vec::with_capacity(samples * channels * size * size);
    for plane in 0..samples * channels {
        let frequency_y = 0.05 + (plane % 7) as f32 * 0.03;
        let frequency_x = 0.04 + (plane % 5) as f32 * 0.05;
        let phase = plane as f32;
        for y in 0..size {
            for x in 0..size {
                let smooth = (y as f32 * frequency_y + phase).sin() * (x as f32 * frequency_x).cos();
                let wave = smooth + 0.2 * noise();
                values.push(if relu { wave.max(0.0) } else { wave });
            }
        }
    }
    values
}
