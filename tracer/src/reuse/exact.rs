//! A layer's passes without reuse, by libtorch: of passes that have none, and to compare with.

use crate::error::Result;
use mercury_reuse::Deviation;
use mercury_trace::geometry::Geometry;
use tch::{Kind, Tensor};

/// Y without bias.
pub fn forward(geometry: &Geometry, x: &Tensor, w: &Tensor) -> Tensor {
    match geometry {
        Geometry::Conv2d(conv) => {
            let pair = |values: [u32; 2]| values.map(i64::from);
            let (stride, padding, dilation) = (pair(conv.stride), pair(conv.padding), pair(conv.dilation));
            x.conv2d::<Tensor>(w, None, stride, padding, dilation, i64::from(conv.groups))
        }
        Geometry::Linear(_) => x.linear::<Tensor>(w, None),
        Geometry::Attention(_) => x.matmul(&w.transpose(-2, -1)),
    }
}

/// dX and dW, as far as they are wanted.
pub fn gradients(
    geometry: &Geometry,
    x: &Tensor,
    w: &Tensor,
    dy: &Tensor,
    wanted: [bool; 2],
) -> Result<[Option<Tensor>; 2]> {
    if wanted == [false; 2] {
        return Ok([None, None]);
    }
    let operands = [x, w].map(|tensor| tensor.detach().set_requires_grad(true));
    tch::with_grad(|| {
        let y = forward(geometry, &operands[0], &operands[1]);
        let inputs: Vec<&Tensor> =
            operands.iter().zip(wanted).filter_map(|(tensor, wanted)| wanted.then_some(tensor)).collect();
        // Its gradient with respect to Y is dY.
        let loss = (y * dy).sum(Kind::Float);
        let mut gradients = Tensor::f_run_backward(&[loss], &inputs, false, false)?.into_iter();
        Ok(wanted.map(|wanted| if wanted { gradients.next() } else { None }))
    })
}

/// How far a result is from the exact one; sums are in f64.
pub fn deviation(exact: &Tensor, reused: &Tensor) -> Deviation {
    let exact = exact.to_kind(Kind::Double);
    let change = reused.to_kind(Kind::Double) - &exact;
    let sum = |a: &Tensor, b: &Tensor| (a * b).sum(Kind::Double).double_value(&[]);
    Deviation { exact: sum(&exact, &exact), change: sum(&change, &change), cross: sum(&exact, &change) }
}
