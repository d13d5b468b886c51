//! Weights and checkpoints as safetensors files, which are replaced atomically.

use crate::error::{Result, TracerError};
use crate::optimizer::Optimizer;
use crate::pretrained;
use crate::weights::Weights;
use mercury_trace::atomic;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Tensor};

/// The checkpoint's file name in the folder of a run.
pub const FILE_NAME: &str = "checkpoint.safetensors";

/// Writes a model's parameters and buffers under PyTorch's names.
pub fn save_weights(weights: &Weights, path: &Path) -> Result<()> {
    let entries = weights.entries();
    write(path, entries.iter().map(|entry| (entry.name.clone(), &entry.tensor)))
}

/// Writes the state of a run after `steps` steps: weights, optimiser and position.
///
/// Random numbers need no state, because those of a step depend only on the seed and the step.
pub fn save(path: &Path, weights: &Weights, optimizer: &Optimizer, steps: u64) -> Result<()> {
    let position = Tensor::from_slice(&[steps as i64]);
    let state = optimizer.state();
    let entries = weights.entries();
    let model = entries.iter().map(|entry| (format!("model.{}", entry.name), &entry.tensor));
    let optimizer = state.iter().map(|(name, tensor)| (format!("optimizer.{name}"), tensor));
    write(path, model.chain(optimizer).chain([("steps".to_owned(), &position)]))
}

/// A checkpoint that was read, before it is restored.
pub struct Checkpoint {
    model: BTreeMap<String, Tensor>,
    optimizer: BTreeMap<String, Tensor>,
    /// Number of steps before it.
    pub steps: u64,
}

impl Checkpoint {
    /// Reads a checkpoint.
    pub fn read(path: &Path) -> Result<Self> {
        let refuse = |reason: String| TracerError::Weights { path: path.to_owned(), reason };
        let (mut model, mut optimizer) = (BTreeMap::new(), BTreeMap::new());
        let mut steps = None;
        for (name, tensor) in pretrained::read_safetensors(path).map_err(refuse)? {
            if let Some(name) = name.strip_prefix("model.") {
                model.insert(name.to_owned(), tensor);
            } else if let Some(name) = name.strip_prefix("optimizer.") {
                optimizer.insert(name.to_owned(), tensor);
            } else if name == "steps" {
                steps = tensor.f_int64_value(&[0]).ok().and_then(|steps| u64::try_from(steps).ok());
            }
        }
        let Some(steps) = steps else {
            let reason = "is not a checkpoint (it has no position); remove it to begin anew";
            return Err(refuse(reason.to_owned()));
        };
        Ok(Self { model, optimizer, steps })
    }

    /// Restores a model and its optimiser.
    pub fn restore(self, path: &Path, weights: &Weights, optimizer: &mut Optimizer) -> Result<()> {
        pretrained::restore(weights, path, self.model)?;
        optimizer.restore(|name| {
            self.optimizer.get(name).map(Tensor::shallow_clone).ok_or_else(|| TracerError::Weights {
                path: path.to_owned(),
                reason: format!("the optimiser's {name} is missing; remove the file to begin anew"),
            })
        })
    }
}

fn write<'a>(path: &Path, tensors: impl Iterator<Item = (String, &'a Tensor)>) -> Result<()> {
    let io = |error: std::io::Error| TracerError::Weights { path: path.to_owned(), reason: error.to_string() };
    let tensors: Vec<(String, Tensor)> =
        tensors.map(|(name, tensor)| (name, tensor.detach().to_device(Device::Cpu).contiguous())).collect();
    let file = atomic::begin(path).map_err(io)?;
    Tensor::write_safetensors(&tensors, file.path()).map_err(|error| {
        let reason = format!("cannot be written: {}", pretrained::without_path(&error));
        TracerError::Weights { path: path.to_owned(), reason }
    })?;
    atomic::commit(file, path).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::Method;
    use crate::schedule::Schedule;
    use crate::tap::backward;
    use tch::Kind;

    fn model(names: &[(&str, i64)]) -> Weights {
        let weights = Weights::new(Device::Cpu);
        for (name, size) in names {
            let _ = weights.root().parameter(name, &[*size], || Tensor::ones([*size], (Kind::Float, Device::Cpu)));
        }
        weights
    }

    #[test]
    fn a_checkpoint_restores_model_and_optimizer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        let weights = model(&[("a", 3), ("b", 2)]);
        let mut optimizer = Optimizer::new(Method::Sgd { momentum: 0.9 }, 0.0, &weights);
        let loss = weights.entries()[0].tensor.sum(Kind::Float);
        let gradients = backward(&loss, &optimizer.parameters(), None).unwrap();
        optimizer.step(gradients, &Schedule::constant(0.5), 0);
        save(&path, &weights, &optimizer, 7).unwrap();

        let other = model(&[("a", 3), ("b", 2)]);
        let mut fresh = Optimizer::new(Method::Sgd { momentum: 0.9 }, 0.0, &other);
        let checkpoint = Checkpoint::read(&path).unwrap();
        assert_eq!(checkpoint.steps, 7);
        checkpoint.restore(&path, &other, &mut fresh).unwrap();
        assert_eq!(other.entries()[0].tensor, Tensor::from_slice(&[0.5f32; 3]));
        for ((name, saved), (_, restored)) in optimizer.state().iter().zip(fresh.state()) {
            assert_eq!(saved, &restored, "{name}");
        }
    }
}
