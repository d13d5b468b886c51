use mercury_hardware::config::Config;
use mercury_passes::{PassOutcomes, Reuse, Room, Streamed};
use mercury_trace::geometry::{Conv2d, Geometry, Pass};
use std::time::Instant;

fn main() {
    let config = Config::default();
    let samples = 128;
    let mut totals = [0.0f64; 3];
    for (channels, size, filters, stride, count) in [
        (3, 32, 16, 1, 1),
        (16, 32, 16, 1, 6),
        (16, 32, 32, 2, 1),
        (32, 16, 32, 1, 5),
        (32, 16, 64, 2, 1),
        (64, 8, 64, 1, 5),
    ] {
        let conv = Conv2d {
            in_channels: channels,
            out_channels: filters,
            input: [size; 2],
            kernel: [3; 2],
            stride: [stride; 2],
            padding: [1; 2],
            dilation: [1; 2],
            groups: 1,
        };
        let geometry = Geometry::Conv2d(conv);
        let plane = (size * size) as usize;
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        let mut smooth = 0.0;
        let x: Vec<f32> = (0..samples * channels as usize * plane)
            .map(|_| {
                smooth = 0.7 * smooth + 0.3 * random();
                smooth.max(0.0)
            })
            .collect();
        let w: Vec<f32> = (0..(filters * channels * 9) as usize).map(|_| random()).collect();
        let out = conv.output();
        let mut y = vec![0.0; samples * filters as usize * (out[0] * out[1]) as usize];
        let mut dw = vec![0.0; w.len()];
        let dy = vec![0.5; y.len()];
        let mut room = Room::default();
        let mut best = [f64::INFINITY; 3];
        for _ in 0..4 {
            let streamed = Streamed::new(&geometry, Pass::Forward, &x, samples);
            let t = Instant::now();
            let outcomes = PassOutcomes::new(&config, &geometry, Pass::Forward, &streamed);
            best[0] = best[0].min(t.elapsed().as_secs_f64());
            let reuse = Reuse { config: &config, geometry: &geometry, streamed, outcomes: &outcomes };
            let t = Instant::now();
            reuse.forward(&w, &mut y, &mut room);
            best[1] = best[1].min(t.elapsed().as_secs_f64());
            let t = Instant::now();
            reuse.weight_grad(&dy, &mut dw, &mut room);
            best[2] = best[2].min(t.elapsed().as_secs_f64());
            if best[0] < 0.0 {
                println!("{:?}", outcomes.counts());
            }
        }
        println!(
            "{channels}x{size}: outcomes {:.1} ms, forward {:.1} ms, weight-grad {:.1} ms",
            best[0] * 1e3,
            best[1] * 1e3,
            best[2] * 1e3
        );
        for (total, best) in totals.iter_mut().zip(best) {
            *total += best * f64::from(count);
        }
    }
    println!("total ms {:?}", totals.map(|t| t * 1e3));
}
