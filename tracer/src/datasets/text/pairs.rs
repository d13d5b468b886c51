//! Data sets of sentence pairs.

use super::{BOS, EOS, PAD, Vocabulary};
use crate::datasets::files::Origin;
use crate::datasets::{Augment, Batch, DataOptions, Dataset, Split, Task, digest};
use crate::error::{Result, TracerError};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tch::Tensor;

/// Maximum of `--max-length`.
const MAX_LENGTH: i64 = 4096;

/// A sentence and its translation, as lines or as tokens.
type SentencePair<T> = (T, T);

/// Opens `Multi30K`: captions in English and German.
pub(in crate::datasets) fn multi30k(options: &DataOptions, _: i64) -> Result<Dataset> {
    let name = "multi30k";
    let file = |file: &str| (options.data_dir.join(name).join(file), Origin::Fetched(name));
    let train = read_pairs(&file("train.en"), &file("train.de"))?;
    let validation = read_pairs(&file("val.en"), &file("val.de"))?;
    let notes = [("direction", "English to German"), ("validation", "the set's validation lines")];
    prepare(name, options, &train, validation, &notes)
}

/// Opens the user's own files.
pub(in crate::datasets) fn own(options: &DataOptions, _: i64) -> Result<Dataset> {
    let name = "text";
    let file = |flag: &'static str, path: &Option<PathBuf>, why: &str| match path {
        Some(path) => Ok((path.clone(), Origin::Flag(flag))),
        None => Err(TracerError::Flag { flag, reason: format!("is needed {why}: a file with one sentence per line") }),
    };
    let source = file("--source", &options.source, "by --dataset text")?;
    let target = file("--target", &options.target, "by --dataset text")?;
    let mut train = read_pairs(&source, &target)?;
    let (validation, chosen) = if options.validation_source.is_some() || options.validation_target.is_some() {
        let source = file("--validation-source", &options.validation_source, "with --validation-target")?;
        let target = file("--validation-target", &options.validation_target, "with --validation-source")?;
        (read_pairs(&source, &target)?, "--validation-source and --validation-target".to_owned())
    } else {
        let Some([kept, chosen]) = options.divide(train.len())? else {
            return Err(source.1.bad(&source.0, TOO_FEW));
        };
        let pick = |indices: &[u32]| indices.iter().map(|&index| train[index as usize].clone()).collect::<Vec<_>>();
        let (kept, chosen) = (pick(&kept), pick(&chosen));
        train = kept;
        (chosen, format!("a share of {}, chosen with seed {}", options.validation_share, options.seed))
    };
    prepare(name, options, &train, validation, &[("validation", &chosen)])
}

const TOO_FEW: &str = "has fewer than two lines that are not empty in both files";

/// Reads pairs of lines from two files; skips pairs with an empty line.
fn read_pairs(source: &(PathBuf, Origin), target: &(PathBuf, Origin)) -> Result<Vec<SentencePair<String>>> {
    let sources = read_lines(source)?;
    let targets = read_lines(target)?;
    if sources.len() != targets.len() {
        let (count, other) = (targets.len(), source.0.display());
        let reason = format!(
            "has {count} lines, but {other} has {}; each line must translate the other file's line",
            sources.len()
        );
        return Err(target.1.bad(&target.0, reason));
    }
    let count = sources.len();
    let pairs: Vec<_> = sources
        .into_iter()
        .zip(targets)
        .filter(|(source, target)| !source.trim().is_empty() && !target.trim().is_empty())
        .collect();
    if pairs.len() < count {
        tracing::info!(file = %source.0.display(), lines = count - pairs.len(), "left out lines that are empty in either file");
    }
    if pairs.len() < 2 {
        return Err(source.1.bad(&source.0, TOO_FEW));
    }
    Ok(pairs)
}

fn read_lines((path, origin): &(PathBuf, Origin)) -> Result<Vec<String>> {
    let bytes = origin.read(path)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid].split(|&byte| byte == b'\n').count();
        origin.bad(path, format!("line {line} is not UTF-8; convert the file to it"))
    })?;
    // Some programs start a file with a byte order mark, which is not part of the text.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    if text.trim().is_empty() {
        return Err(origin.bad(path, "is empty"));
    }
    Ok(text.lines().map(str::to_owned).collect())
}

/// Learns the vocabulary from the training lines and encodes all lines.
fn prepare(
    name: &str,
    options: &DataOptions,
    train: &[SentencePair<String>],
    validation: Vec<SentencePair<String>>,
    notes: &[(&str, &str)],
) -> Result<Dataset> {
    let length = options.max_length;
    if !(2..=MAX_LENGTH).contains(&length) {
        let reason = format!("is {length}, but must be from 2 to {MAX_LENGTH}");
        return Err(TracerError::Flag { flag: "--max-length", reason });
    }
    let length = length as usize;
    let lines: Vec<&String> = train.iter().flat_map(|(source, target)| [source, target]).collect();
    let vocabulary = Vocabulary::learn(&lines, options.vocabulary_size)?;
    let count = train.len();
    let mut train = encode(&vocabulary, train);
    // EOS takes one token.
    train.retain(|(source, target)| source.len().max(target.len()) < length);
    let long = count - train.len();
    if train.is_empty() {
        let reason = format!("is {length}, but all {count} training sentences are longer; raise it");
        return Err(TracerError::Flag { flag: "--max-length", reason });
    }
    if long > 0 {
        tracing::info!(left_out = long, of = count, "training sentences longer than --max-length");
    }
    let mut validated = encode(&vocabulary, &validation);
    let mut cut = 0;
    for (source, target) in &mut validated {
        cut += usize::from(source.len().max(target.len()) >= length);
        source.truncate(length - 1);
        target.truncate(length - 1);
    }
    let mut description: BTreeMap<String, String> =
        notes.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    let counted = format!("{long} of {count} training sentences longer than {length} tokens");
    description.insert("left out".to_owned(), counted);
    description.insert("truncated".to_owned(), format!("{cut} of {} validation sentences", validated.len()));
    let learnt = format!("{} tokens, byte pairs of both languages' training lines", vocabulary.size());
    description.insert("vocabulary".to_owned(), learnt);
    description
        .insert("digest".to_owned(), digest(lines.into_iter().chain(validation.iter().flat_map(|(s, t)| [s, t]))));

    let task = Task::Text { source: length as i64, target: length as i64, vocabulary: vocabulary.size() as i64 };
    let split = |pairs| -> Arc<dyn Split> { Arc::new(Sentences { pairs, length }) };
    Ok(Dataset {
        name: name.to_owned(),
        task,
        train: split(train),
        validation: split(validated),
        vocabulary: Some(vocabulary),
        reference_lines: validation.into_iter().map(|(_, target)| target).collect(),
        description,
        warnings: Vec::new(),
    })
}

fn encode(vocabulary: &Vocabulary, pairs: &[SentencePair<String>]) -> Vec<SentencePair<Vec<u32>>> {
    let tokens = |(source, target): &SentencePair<String>| (vocabulary.encode(source), vocabulary.encode(target));
    pairs.par_iter().map(tokens).collect()
}

/// Sentences as tokens, without BOS and EOS.
struct Sentences {
    pairs: Vec<SentencePair<Vec<u32>>>,
    /// Tokens of a sentence with its EOS.
    length: usize,
}

impl Split for Sentences {
    fn len(&self) -> usize {
        self.pairs.len()
    }

    fn load(&self, indices: &[u32], _: Option<Augment>) -> Result<Batch> {
        let (mut sources, mut targets) = (Vec::new(), Vec::new());
        for &index in indices {
            let (source, target) = &self.pairs[index as usize];
            append(&mut sources, None, source, self.length);
            append(&mut targets, Some(BOS), target, self.length + 1);
        }
        let samples = indices.len() as i64;
        let length = self.length as i64;
        Ok(Batch::Text {
            source: Tensor::f_from_slice(&sources)?.f_reshape([samples, length])?,
            target: Tensor::f_from_slice(&targets)?.f_reshape([samples, length + 1])?,
        })
    }
}

/// Appends `begin`, the tokens and EOS, padded to `length`.
fn append(row: &mut Vec<i64>, begin: Option<u32>, tokens: &[u32], length: usize) {
    let end = row.len() + length;
    row.extend(begin.into_iter().chain(tokens.iter().copied()).chain([EOS]).map(i64::from));
    row.resize(end, i64::from(PAD));
}

#[cfg(test)]
#[path = "pairs_tests.rs"]
mod tests;
