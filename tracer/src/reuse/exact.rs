//! A layer's passes without reuse, computed by libtorch.
//!
//! They serve passes for which reuse is off, and the comparison with passes for which it is on.

use crate::error::Result;
use mercury_reuse::Deviation;
use mercury_trace::geometry::Geometry;
use tch::{Kind, Tensor};

/// Computes Y without bias.
pub fn forward(geometry: &Geometry, x: &Tensor, w: &Tensor) -> Tensor {
    match geometry {
        Geometry::Conv2d(conv) => {
            let [stride, padding, dilation] =
                [conv.stride, conv.padding, conv.dilation].map(|pair| pair.map(i64::from));
            x.conv2d::<Tensor>(w, None, stride, padding, dilation, i64::from(conv.groups))
        }
        Geometry::Linear(_) => x.linear::<Tensor>(w, None),
        Geometry::Matmul(_) => x.matmul(&w.transpose(-2, -1)),
    }
}

/// Computes dX and dW, as far as they are wanted; one of them must be.
pub fn gradients(
    geometry: &Geometry,
    x: &Tensor,
    w: &Tensor,
    dy: &Tensor,
    wanted: [bool; 2],
) -> Result<[Option<Tensor>; 2]> {
    let operands = [x, w].map(|tensor| tensor.detach().set_requires_grad(true));
    tch::with_grad(|| {
        let y = forward(geometry, &operands[0], &operands[1]);
        let wanted_operands = operands.iter().zip(wanted).filter(|(_, wanted)| *wanted);
        let inputs: Vec<&Tensor> = wanted_operands.map(|(tensor, _)| tensor).collect();
        // The gradient of <Y, dY> with respect to Y is dY.
        let loss = (y * dy).sum(Kind::Float);
        let mut gradients = Tensor::f_run_backward(&[loss], &inputs, false, false)?.into_iter();
        Ok(wanted.map(|wanted| if wanted { gradients.next() } else { None }))
    })
}

/// Computes the deviation of a result from the exact result; sums are in f64.
pub fn deviation(exact: &Tensor, reused: &Tensor) -> Deviation {
    let exact = exact.to_kind(Kind::Double);
    let change = reused.to_kind(Kind::Double) - &exact;
    let sum = |a: &Tensor, b: &Tensor| (a * b).sum(Kind::Double).double_value(&[]);
    Deviation { exact: sum(&exact, &exact), change: sum(&change, &change), cross: sum(&exact, &change) }
}
