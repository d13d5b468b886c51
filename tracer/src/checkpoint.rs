//! Weights and checkpoints as safetensors files, replaced atomically.

use crate::error::{Result, TracerError};
use crate::optimizer::Optimizer;
use crate::weights::Weights;
use globset::GlobSet;
use mercury_trace::atomic;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Tensor, no_grad};

/// A checkpoint's name within the folder of a run.
pub const FILE_NAME: &str = "checkpoint.safetensors";

/// Kept for PyTorch's sake; a file may lack it.
const OPTIONAL: &str = "num_batches_tracked";
/// Names that an error lists.
const LISTED: usize = 10;

/// Writes a model's parameters and buffers under their names in PyTorch.
pub fn save_weights(weights: &Weights, path: &Path) -> Result<()> {
    let entries = weights.entries();
    write(path, entries.iter().map(|entry| (entry.name.clone(), &entry.tensor)))
}

/// Reads a model's parameters and buffers; the file must have all of them and nothing else. Names
/// that match `fresh` are left as they are, whatever the file has.
pub fn load_weights(weights: &Weights, path: &Path, fresh: &GlobSet) -> Result<()> {
    copy_weights(weights, path, read(path)?, fresh)
}

fn copy_weights(weights: &Weights, path: &Path, mut found: BTreeMap<String, Tensor>, fresh: &GlobSet) -> Result<()> {
    found.retain(|name, _| !fresh.is_match(name));
    let (mut missing, mut shapes) = (Vec::new(), Vec::new());
    for entry in weights.entries().iter() {
        match found.remove(&entry.name) {
            None if entry.name.ends_with(OPTIONAL) || fresh.is_match(&entry.name) => {}
            None => missing.push(entry.name.clone()),
            Some(tensor) if tensor.size() != entry.tensor.size() => {
                shapes.push(format!("{} ({:?}, the model has {:?})", entry.name, tensor.size(), entry.tensor.size()));
            }
            Some(tensor) => no_grad(|| entry.tensor.shallow_clone().f_copy_(&tensor))?,
        }
    }
    let parts = [("missing", missing), ("not in the model", found.into_keys().collect()), ("of another shape", shapes)];
    let wrong: Vec<String> =
        parts.iter().filter(|(_, names)| !names.is_empty()).map(|(what, names)| list(what, names)).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let reason = format!(
        "does not fit the model: {}; is it of another model, or of a data set with another number of classes? To train on from it, leave what differs out with --fresh",
        wrong.join("; ")
    );
    Err(TracerError::Weights { path: path.to_owned(), reason })
}

fn list(what: &str, names: &[String]) -> String {
    let more = names.len().saturating_sub(LISTED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{what}: {}{more}", names[..names.len().min(LISTED)].join(", "))
}

/// Writes what a run needs to go on after `steps` steps: weights, optimiser and position. Random
/// numbers need no state: those of a step depend on the seed and the step alone.
pub fn save(path: &Path, weights: &Weights, optimizer: &Optimizer, steps: u64) -> Result<()> {
    let position = Tensor::from_slice(&[steps as i64]);
    let state = optimizer.state();
    let entries = weights.entries();
    let model = entries.iter().map(|entry| (format!("model.{}", entry.name), &entry.tensor));
    let optimizer = state.iter().map(|(name, tensor)| (format!("optimizer.{name}"), tensor));
    write(path, model.chain(optimizer).chain([("steps".to_owned(), &position)]))
}

/// A checkpoint that was read, not yet taken over.
pub struct Checkpoint {
    model: BTreeMap<String, Tensor>,
    optimizer: BTreeMap<String, Tensor>,
    /// Steps that had been done.
    pub steps: u64,
}

impl Checkpoint {
    /// Reads a checkpoint.
    pub fn read(path: &Path) -> Result<Self> {
        let (mut model, mut optimizer, mut steps) = (BTreeMap::new(), BTreeMap::new(), None);
        for (name, tensor) in read(path)? {
            if let Some(name) = name.strip_prefix("model.") {
                model.insert(name.to_owned(), tensor);
            } else if let Some(name) = name.strip_prefix("optimizer.") {
                optimizer.insert(name.to_owned(), tensor);
            } else if name == "steps" {
                steps = tensor.f_int64_value(&[0]).ok().and_then(|steps| u64::try_from(steps).ok());
            }
        }
        let steps = steps.ok_or_else(|| TracerError::Weights {
            path: path.to_owned(),
            reason: "is not a checkpoint (it has no position); remove it to begin anew".to_owned(),
        })?;
        Ok(Self { model, optimizer, steps })
    }

    /// Puts a model and its optimiser where they were.
    pub fn restore(self, path: &Path, weights: &Weights, optimizer: &mut Optimizer) -> Result<()> {
        copy_weights(weights, path, self.model, &GlobSet::empty())?;
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
        let reason = format!("cannot be written: {}", without_path(&error));
        TracerError::Weights { path: path.to_owned(), reason }
    })?;
    atomic::commit(file, path).map_err(io)
}

fn read(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let tensors = Tensor::read_safetensors(path).map_err(|error| {
        let reason = format!("not a readable safetensors file: {}", without_path(&error));
        TracerError::Weights { path: path.to_owned(), reason }
    })?;
    Ok(tensors.into_iter().collect())
}

/// tch's message without the path, which ours has.
fn without_path(error: &tch::TchError) -> String {
    match error {
        tch::TchError::SafeTensorError { err, .. } => err.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::Method;
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
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        let weights = model(&[("a", 3), ("b", 2)]);
        let mut optimizer = Optimizer::new(Method::Sgd { momentum: 0.9 }, 0.0, &weights);
        let loss = weights.entries()[0].tensor.sum(Kind::Float);
        let gradients = backward(&loss, &optimizer.parameters(), None).unwrap();
        optimizer.step(gradients, 0.5);
        save(&path, &weights, &optimizer, 7).unwrap();

        let other = model(&[("a", 3), ("b", 2)]);
        let mut fresh = Optimizer::new(Method::Sgd { momentum: 0.9 }, 0.0, &other);
        let checkpoint = Checkpoint::read(&path).unwrap();
        assert_eq!(checkpoint.steps, 7);
        checkpoint.restore(&path, &other, &mut fresh).unwrap();
        assert_eq!(other.entries()[0].tensor, Tensor::from_slice(&[0.5f32; 3]));
        for ((name, ours), (_, theirs)) in optimizer.state().iter().zip(fresh.state()) {
            assert_eq!(ours, &theirs, "{name}");
        }
    }

    #[test]
    fn weights_of_another_model_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights.safetensors");
        let many: Vec<String> = (0..12).map(|i| format!("extra{i:02}")).collect();
        let mut names: Vec<(&str, i64)> = many.iter().map(|name| (name.as_str(), 1)).collect();
        names.push(("a", 3));
        save_weights(&model(&names), &path).unwrap();
        let error =
            load_weights(&model(&[("a", 4), ("b", 2), ("bn.num_batches_tracked", 1)]), &path, &GlobSet::empty())
                .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("missing: b;") && text.contains("extra09 and 2 more"), "{text}");
        assert!(text.contains("of another shape: a ([3], the model has [4])"), "{text}");

        let fresh = globset::GlobSetBuilder::new().add("[ab]".parse().unwrap()).add("extra*".parse().unwrap()).build();
        load_weights(&model(&[("a", 4), ("b", 2)]), &path, &fresh.unwrap()).unwrap();

        std::fs::write(&path, "not weights").unwrap();
        let text = load_weights(&model(&[("a", 4)]), &path, &GlobSet::empty()).unwrap_err().to_string();
        assert!(text.contains("weights.safetensors: not a readable safetensors file"), "{text}");
        let text = load_weights(&model(&[]), &dir.path().join("none"), &GlobSet::empty()).unwrap_err().to_string();
        assert!(text.contains("none: "), "{text}");
        assert!(text.contains("No such file"), "{text}");
    }
}
