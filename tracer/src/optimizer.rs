//! Optimisers as in `torch.optim`, with a state that can be saved and loaded (tch's have none).

use crate::error::Result;
use crate::groups::ParameterGroups;
use crate::schedule::Schedule;
use crate::weights::{Role, Weights};
use tch::{Tensor, no_grad};

/// The update rule of the parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// Stochastic gradient descent with momentum; weight decay is added to the gradient.
    Sgd {
        /// Share of the previous update that is added.
        momentum: f64,
    },
    /// Kingma and Ba, "Adam" (ICLR 2015); weight decay is added to the gradient.
    Adam {
        /// Decay of the running means of the gradient and of its square.
        betas: [f64; 2],
    },
    /// Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (ICLR 2019).
    AdamW {
        /// Decay of the running means of the gradient and of its square.
        betas: [f64; 2],
    },
}

/// Added to Adam's denominator.
const EPSILON: f64 = 1e-8;

impl Method {
    /// Names of the tensors kept for each parameter.
    fn state_names(self) -> &'static [&'static str] {
        match self {
            Method::Sgd { .. } => &["momentum"],
            Method::Adam { .. } | Method::AdamW { .. } => &["mean", "square"],
        }
    }
}

/// A parameter with its state.
struct ParameterState {
    name: String,
    parameter: Tensor,
    /// Maximum learning rate, if it is not the schedule's.
    peak: Option<f64>,
    state: Vec<Tensor>,
}

/// Updates parameters by their gradients.
pub struct Optimizer {
    method: Method,
    weight_decay: f64,
    parameters: Vec<ParameterState>,
    /// Steps done.
    steps: u64,
}

impl Optimizer {
    /// Creates an optimiser of all parameters of a model that are not frozen.
    pub fn new(method: Method, weight_decay: f64, weights: &Weights) -> Self {
        let mut parameters = Vec::new();
        for entry in weights.entries().iter().filter(|entry| entry.role == Role::Trained) {
            let zeros = method.state_names().iter().map(|_| no_grad(|| entry.tensor.zeros_like()));
            parameters.push(ParameterState {
                name: entry.name.clone(),
                parameter: entry.tensor.shallow_clone(),
                peak: None,
                state: zeros.collect(),
            });
        }
        Self { method, weight_decay, parameters, steps: 0 }
    }

    /// Sets the learning rates of the groups that have their own.
    #[must_use]
    pub fn with_groups(mut self, groups: &ParameterGroups) -> Self {
        for entry in &mut self.parameters {
            entry.peak = groups.rate(&entry.name);
        }
        self
    }

    /// The parameters, in the order of the gradients for [`Optimizer::step`].
    pub fn parameters(&self) -> Vec<&Tensor> {
        self.parameters.iter().map(|entry| &entry.parameter).collect()
    }

    /// Updates all parameters whose gradient is defined, at the rates of a step of the schedule; may
    /// reuse the gradients' memory.
    ///
    /// # Panics
    /// If there are more or fewer gradients than parameters.
    pub fn step(&mut self, gradients: Vec<Tensor>, schedule: &Schedule, step: u64) {
        assert_eq!(gradients.len(), self.parameters.len(), "a gradient for each parameter");
        self.steps += 1;
        let (method, decay) = (self.method, self.weight_decay);
        let steps = self.steps as f64;
        no_grad(|| {
            for (entry, gradient) in self.parameters.iter_mut().zip(gradients) {
                if gradient.defined() {
                    let peak = entry.peak.unwrap_or(schedule.peak);
                    let learning_rate = schedule.rate_with_peak(peak, step);
                    update(method, decay, learning_rate, steps, entry, gradient);
                }
            }
        });
    }

    /// The state by name, for a checkpoint.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = Vec::new();
        for entry in &self.parameters {
            for (kind, tensor) in self.method.state_names().iter().zip(&entry.state) {
                state.push((format!("{kind}.{}", entry.name), tensor.shallow_clone()));
            }
        }
        state.push(("steps".to_owned(), Tensor::from_slice(&[self.steps as i64])));
        state
    }

    /// Restores the state that [`Optimizer::state`] returned; `find` looks up a tensor by name.
    pub fn restore(&mut self, find: impl Fn(&str) -> Result<Tensor>) -> Result<()> {
        let kinds = self.method.state_names();
        for entry in &mut self.parameters {
            for (kind, tensor) in kinds.iter().zip(&mut entry.state) {
                tensor.f_copy_(&find(&format!("{kind}.{}", entry.name))?)?;
            }
        }
        self.steps = find("steps")?.int64_value(&[0]) as u64;
        Ok(())
    }
}

/// Scales all gradients such that their joint norm is at most `limit`, as
/// `torch.nn.utils.clip_grad_norm_` does.
pub fn clip(gradients: &mut [Tensor], limit: f64) {
    let norms: Vec<Tensor> = gradients.iter().filter(|gradient| gradient.defined()).map(Tensor::norm).collect();
    let scale = (limit / (Tensor::stack(&norms, 0).norm() + 1e-6)).clamp_max(1.0);
    for gradient in gradients.iter_mut().filter(|gradient| gradient.defined()) {
        let _ = gradient.g_mul_(&scale);
    }
}

/// Updates one parameter, in place where possible, so that a step needs little memory.
fn update(
    method: Method,
    decay: f64,
    learning_rate: f64,
    steps: f64,
    entry: &mut ParameterState,
    mut gradient: Tensor,
) {
    let ParameterState { parameter, state, .. } = entry;
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
    use crate::schedule::Decay;
    use crate::tap::backward;
    use tch::nn::{self, OptimizerConfig};
    use tch::{Device, Kind};

    /// Compares twenty steps with twenty of libtorch's optimiser.
    fn compare(method: Method, decay: f64, build_peer: impl FnOnce(&nn::VarStore) -> nn::Optimizer) {
        tch::manual_seed(5);
        let weights = Weights::new(Device::Cpu);
        let start = Tensor::randn([7, 5], (Kind::Float, Device::Cpu));
        let ours = weights.root().parameter("w", &[7, 5], || start.copy());
        let store = nn::VarStore::new(Device::Cpu);
        let peer = store.root().var_copy("w", &start);
        let mut optimizer = Optimizer::new(method, decay, &weights);
        let mut peer_optimizer = build_peer(&store);
        let target = Tensor::randn([7, 5], (Kind::Float, Device::Cpu));
        for _ in 0..20 {
            let loss = |w: &Tensor| ((w - &target).square() * &target.exp()).sum(Kind::Float);
            let gradients = backward(&loss(&ours), &optimizer.parameters(), None).unwrap();
            optimizer.step(gradients, &Schedule::constant(0.01), 0);
            peer_optimizer.backward_step(&loss(&peer));
        }
        assert!(ours.allclose(&peer, 1e-5, 1e-6, false), "{method:?}: {}", (&ours - &peer).abs().max());
        assert!(!ours.allclose(&start, 1e-3, 1e-3, false));
    }

    #[test]
    fn steps_equal_those_of_libtorch() {
        compare(Method::Sgd { momentum: 0.9 }, 0.1, |store| nn::sgd(0.9, 0.0, 0.1, false).build(store, 0.01).unwrap());
        compare(Method::Sgd { momentum: 0.0 }, 0.0, |store| nn::sgd(0.0, 0.0, 0.0, false).build(store, 0.01).unwrap());
        let betas = [0.9, 0.98];
        compare(Method::Adam { betas }, 0.1, |store| nn::adam(0.9, 0.98, 0.1).build(store, 0.01).unwrap());
        compare(Method::AdamW { betas }, 0.1, |store| nn::adamw(0.9, 0.98, 0.1).build(store, 0.01).unwrap());
    }

    /// Compares twenty steps of two groups with libtorch's, whose rates are set before each step.
    fn compare_groups(method: Method, decay: f64, build_peer: impl FnOnce(&nn::VarStore) -> nn::Optimizer) {
        tch::manual_seed(6);
        let weights = Weights::new(Device::Cpu);
        let store = nn::VarStore::new(Device::Cpu);
        let starts = [0, 1].map(|_| Tensor::randn([7, 5], (Kind::Float, Device::Cpu)));
        let names = ["features", "fc"];
        let ours = [0, 1].map(|i: usize| weights.root().at(names[i]).parameter("weight", &[7, 5], || starts[i].copy()));
        let peers = [0, 1].map(|i: usize| store.root().set_group(i).var_copy(&format!("w{i}"), &starts[i]));
        let groups = ParameterGroups::new(&[], &["fc.*=0.03".parse().unwrap()]).unwrap();
        let mut optimizer = Optimizer::new(method, decay, &weights).with_groups(&groups);
        let mut peer_optimizer = build_peer(&store);
        let target = Tensor::randn([7, 5], (Kind::Float, Device::Cpu));
        let loss = |w: &[Tensor; 2]| ((&w[0] * &w[1] - &target).square() * &target.exp()).sum(Kind::Float);
        let schedule = Schedule { warmup: 4, decay: Decay::Cosine, steps: 20, ..Schedule::constant(0.01) };
        for step in 0..20 {
            let gradients = backward(&loss(&ours), &optimizer.parameters(), None).unwrap();
            optimizer.step(gradients, &schedule, step);
            for (group, peak) in [0.01, 0.03].into_iter().enumerate() {
                peer_optimizer.set_lr_group(group, Schedule { peak, ..schedule }.rate(step));
            }
            peer_optimizer.backward_step(&loss(&peers));
        }
        for (i, (ours, peer)) in ours.iter().zip(&peers).enumerate() {
            assert!(ours.allclose(peer, 1e-5, 1e-6, false), "{method:?} {i}: {}", (ours - peer).abs().max());
            assert!(!ours.allclose(&starts[i], 1e-3, 1e-3, false));
        }
    }

    #[test]
    fn groups_step_as_those_of_libtorch() {
        compare_groups(Method::Sgd { momentum: 0.9 }, 0.1, |store| {
            nn::sgd(0.9, 0.0, 0.1, false).build(store, 0.01).unwrap()
        });
        let betas = [0.9, 0.98];
        compare_groups(Method::Adam { betas }, 0.1, |store| nn::adam(0.9, 0.98, 0.1).build(store, 0.01).unwrap());
        compare_groups(Method::AdamW { betas }, 0.1, |store| nn::adamw(0.9, 0.98, 0.1).build(store, 0.01).unwrap());
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
