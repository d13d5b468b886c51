//! Optimisers as in `torch.optim`, with a state that can be saved and loaded, which tch's lack.

use crate::error::Result;
use crate::weights::Weights;
use tch::{Tensor, no_grad};

/// How parameters follow their gradients.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// Stochastic gradient descent with momentum; weight decay is added to the gradient.
    Sgd {
        /// Share of the last update that goes on.
        momentum: f64,
    },
    /// Kingma and Ba, "Adam" (ICLR 2015); weight decay is added to the gradient.
    Adam {
        /// Decay of the gradient's and of its square's running mean.
        betas: [f64; 2],
    },
    /// Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (ICLR 2019).
    AdamW {
        /// Decay of the gradient's and of its square's running mean.
        betas: [f64; 2],
    },
}

/// Added to Adam's denominator.
const EPSILON: f64 = 1e-8;

impl Method {
    /// Names of what is kept for each parameter.
    fn state(self) -> &'static [&'static str] {
        match self {
            Method::Sgd { .. } => &["momentum"],
            Method::Adam { .. } | Method::AdamW { .. } => &["mean", "square"],
        }
    }
}

/// A parameter with what the method keeps for it.
struct Slot {
    name: String,
    parameter: Tensor,
    state: Vec<Tensor>,
}

/// Changes parameters by their gradients.
pub struct Optimizer {
    method: Method,
    weight_decay: f64,
    slots: Vec<Slot>,
    /// Steps done.
    steps: u64,
}

impl Optimizer {
    /// For all trainable parameters of a model.
    pub fn new(method: Method, weight_decay: f64, weights: &Weights) -> Self {
        let slot = |entry: &crate::weights::Entry| Slot {
            name: entry.name.clone(),
            parameter: entry.tensor.shallow_clone(),
            state: method.state().iter().map(|_| no_grad(|| entry.tensor.zeros_like())).collect(),
        };
        let slots = weights.entries().iter().filter(|entry| entry.trainable).map(slot).collect();
        Self { method, weight_decay, slots, steps: 0 }
    }

    /// The parameters, in the order in which [`Optimizer::step`] takes their gradients.
    pub fn parameters(&self) -> Vec<&Tensor> {
        self.slots.iter().map(|slot| &slot.parameter).collect()
    }

    /// One step of all parameters whose gradient is defined; the gradients are used up.
    ///
    /// # Panics
    /// If there are more or fewer gradients than parameters.
    pub fn step(&mut self, gradients: Vec<Tensor>, learning_rate: f64) {
        assert_eq!(gradients.len(), self.slots.len(), "a gradient for each parameter");
        self.steps += 1;
        let (method, decay, steps) = (self.method, self.weight_decay, self.steps);
        no_grad(|| {
            for (slot, gradient) in self.slots.iter_mut().zip(gradients) {
                if gradient.defined() {
                    update(method, decay, learning_rate, steps as f64, slot, gradient);
                }
            }
        });
    }

    /// The state by name, for a checkpoint.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let of = |slot: &Slot| -> Vec<(String, Tensor)> {
            let kinds = self.method.state().iter().zip(&slot.state);
            kinds.map(|(kind, tensor)| (format!("{kind}.{}", slot.name), tensor.shallow_clone())).collect()
        };
        let mut state: Vec<_> = self.slots.iter().flat_map(of).collect();
        state.push(("steps".to_owned(), Tensor::from_slice(&[self.steps as i64])));
        state
    }

    /// Takes over a state that [`Optimizer::state`] gave; `find` looks a tensor up by name.
    pub fn restore(&mut self, find: impl Fn(&str) -> Result<Tensor>) -> Result<()> {
        let kinds = self.method.state();
        for slot in &mut self.slots {
            for (kind, tensor) in kinds.iter().zip(&mut slot.state) {
                tensor.f_copy_(&find(&format!("{kind}.{}", slot.name))?)?;
            }
        }
        self.steps = find("steps")?.int64_value(&[0]) as u64;
        Ok(())
    }
}

/// Scales all gradients so that together their norm is at most `limit`; as
/// `torch.nn.utils.clip_grad_norm_`.
pub fn clip(gradients: &mut [Tensor], limit: f64) {
    let norms: Vec<Tensor> = gradients.iter().filter(|gradient| gradient.defined()).map(Tensor::norm).collect();
    let scale = (limit / (Tensor::stack(&norms, 0).norm() + 1e-6)).clamp_max(1.0);
    for gradient in gradients.iter_mut().filter(|gradient| gradient.defined()) {
        let _ = gradient.g_mul_(&scale);
    }
}

/// In place throughout, so that a step needs memory for one parameter's update at a time.
fn update(method: Method, decay: f64, learning_rate: f64, steps: f64, slot: &mut Slot, mut gradient: Tensor) {
    let Slot { parameter, state, .. } = slot;
    let device = parameter.device();
    let scalar = |value: f64| Tensor::from(value as f32).to_device(device);
    if decay != 0.0 {
        if let Method::AdamW { .. } = method {
            let _ = parameter.g_mul_scalar_(1.0 - learning_rate * decay);
        } else {
            let _ = gradient.addcmul_(parameter, &scalar(decay));
        }
    }
    match method {
        Method::Sgd { momentum } => {
            if momentum != 0.0 {
                let _ = gradient.addcmul_(&state[0], &scalar(momentum));
            }
            let _ = parameter.addcmul_(&gradient, &scalar(-learning_rate));
            state[0] = gradient;
        }
        Method::Adam { betas: [first, second] } | Method::AdamW { betas: [first, second] } => {
            let [mean, square] = &mut state[..] else { unreachable!("Adam keeps two") };
            let _ = mean.lerp_(&gradient, 1.0 - first);
            let _ = square.g_mul_scalar_(second);
            let _ = square.addcmul_(&gradient, &(&gradient * (1.0 - second)));
            let correction = [1.0 - first.powf(steps), 1.0 - second.powf(steps)];
            let denominator = square.sqrt() / correction[1].sqrt() + EPSILON;
            let _ = parameter.addcdiv_(&(&*mean * (-learning_rate / correction[0])), &denominator);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tap::backward;
    use tch::nn::{self, OptimizerConfig};
    use tch::{Device, Kind};

    /// Twenty steps of ours beside twenty of libtorch's own.
    fn compare(method: Method, decay: f64, theirs: impl FnOnce(&nn::VarStore) -> nn::Optimizer) {
        tch::manual_seed(5);
        let weights = Weights::new(Device::Cpu);
        let start = Tensor::randn([7, 5], (Kind::Float, Device::Cpu));
        let ours = weights.root().parameter("w", &[7, 5], || start.copy());
        let store = nn::VarStore::new(Device::Cpu);
        let peer = store.root().var_copy("w", &start);
        let mut optimizer = Optimizer::new(method, decay, &weights);
        let mut their_optimizer = theirs(&store);
        let target = Tensor::randn([7, 5], (Kind::Float, Device::Cpu));
        for _ in 0..20 {
            let loss = |w: &Tensor| ((w - &target).square() * &target.exp()).sum(Kind::Float);
            let gradients = backward(&loss(&ours), &optimizer.parameters(), None).unwrap();
            optimizer.step(gradients, 0.01);
            their_optimizer.backward_step(&loss(&peer));
        }
        assert!(ours.allclose(&peer, 1e-5, 1e-6, false), "{method:?}: {}", (&ours - &peer).abs().max());
        assert!(!ours.allclose(&start, 1e-3, 1e-3, false));
    }

    #[test]
    fn steps_are_those_of_libtorch() {
        compare(Method::Sgd { momentum: 0.9 }, 0.1, |store| nn::sgd(0.9, 0.0, 0.1, false).build(store, 0.01).unwrap());
        compare(Method::Sgd { momentum: 0.0 }, 0.0, |store| nn::sgd(0.0, 0.0, 0.0, false).build(store, 0.01).unwrap());
        let betas = [0.9, 0.98];
        compare(Method::Adam { betas }, 0.1, |store| nn::adam(0.9, 0.98, 0.1).build(store, 0.01).unwrap());
        compare(Method::AdamW { betas }, 0.1, |store| nn::adamw(0.9, 0.98, 0.1).build(store, 0.01).unwrap());
    }

    #[test]
    fn gradients_are_clipped_together() {
        let weights = Weights::new(Device::Cpu);
        let root = weights.root();
        let [a, b] = ["a", "b"].map(|name| root.parameter(name, &[1], || Tensor::from_slice(&[1.0f32])));
        let loss = (&a * 3.0 + &b * 4.0).sum(Kind::Float);
        let mut gradients = backward(&loss, &[&a, &b], None).unwrap();
        clip(&mut gradients, 10.0);
        assert!((gradients[0].double_value(&[0]) - 3.0).abs() < 1e-5);
        clip(&mut gradients, 1.0);
        let clipped = [0, 1].map(|index: usize| gradients[index].double_value(&[0]));
        assert!((clipped[0] - 0.6).abs() < 1e-5 && (clipped[1] - 0.8).abs() < 1e-5, "{clipped:?}");
    }
}
