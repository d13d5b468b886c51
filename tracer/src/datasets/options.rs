//! What the command line says about data, and the checks of it.

use super::{Source, pixels};
use crate::error::{Result, TracerError};
use rand::seq::SliceRandom;
use std::path::PathBuf;

/// Rows and columns that nobody wants more of.
const MOST_SIZE: i64 = 4096;

/// What the command line says about data.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Folder that holds the fetched data sets' folders: `data` by default.
    pub data_dir: PathBuf,
    /// Folder of images to train on, for `images`.
    pub train: Option<PathBuf>,
    /// Folder of images to validate on, for `images`; a share of those to train on by default.
    pub validation: Option<PathBuf>,
    /// Share of the samples that are validated on, where a set has no validation part of its own:
    /// above 0, below 1; 0.1 by default.
    pub validation_share: f64,
    /// Rows and columns that images are resized to. By default, those of a fetched set keep theirs
    /// (or are surrounded with black to the model's least), and those of `images` become 224.
    pub input_size: Option<i64>,
    /// Whether training images are cropped and flipped at random: not, by default.
    pub augment: bool,
    /// Whether images that cannot be decoded are left out rather than refused, for `images`: not,
    /// by default.
    pub skip_corrupt: bool,
    /// Sentences to translate from, one a line, for `text`.
    pub source: Option<PathBuf>,
    /// Sentences to translate to, line by line those of `source`, for `text`.
    pub target: Option<PathBuf>,
    /// Sentences to validate on, for `text`; a share of those to train on by default.
    pub validation_source: Option<PathBuf>,
    /// Their translations.
    pub validation_target: Option<PathBuf>,
    /// Most tokens that are learnt from text: 8000 by default.
    pub vocabulary_size: usize,
    /// Most tokens of a sentence, the one that ends it included: 32 by default.
    pub max_length: i64,
    /// Seed of the choice of validation samples: 1 by default.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            data_dir: "data".into(),
            train: None,
            validation: None,
            validation_share: 0.1,
            input_size: None,
            augment: false,
            skip_corrupt: false,
            source: None,
            target: None,
            validation_source: None,
            validation_target: None,
            vocabulary_size: 8000,
            max_length: 32,
            seed: 1,
        }
    }
}

impl Options {
    /// Refuses flags that a data set would ignore.
    pub(super) fn check_use(&self, name: &str, source: Source) -> Result<()> {
        let images = matches!(source, Source::Images | Source::OwnImages);
        let (own_images, own_text) = (source == Source::OwnImages, source == Source::OwnText);
        let flags = [
            ("--train-dir", self.train.is_some(), own_images, "`images`"),
            ("--validation-dir", self.validation.is_some(), own_images, "`images`"),
            ("--skip-corrupt", self.skip_corrupt, own_images, "`images`"),
            ("--input-size", self.input_size.is_some(), images, "images"),
            ("--augment", self.augment, images, "images"),
            ("--source", self.source.is_some(), own_text, "`text`"),
            ("--target", self.target.is_some(), own_text, "`text`"),
            ("--validation-source", self.validation_source.is_some(), own_text, "`text`"),
            ("--validation-target", self.validation_target.is_some(), own_text, "`text`"),
        ];
        for (flag, given, used, by) in flags {
            if given && !used {
                let reason = format!("has no effect on --dataset {name}, only on data sets of {by}; leave it out");
                return Err(TracerError::Flag { flag, reason });
            }
        }
        Ok(())
    }

    /// The size that images are resized to, where one was asked for and the model can take it.
    pub(super) fn checked_input_size(&self, least_size: i64) -> Result<Option<usize>> {
        self.input_size.map(|size| check_size(size, least_size)).transpose()
    }

    /// Divides `0..count` into training and validation samples, both ascending; `None` where there
    /// are too few.
    ///
    /// The choice depends on seed, share and count alone.
    pub(super) fn divide(&self, count: usize) -> Result<Option<[Vec<u32>; 2]>> {
        let share = self.validation_share;
        if !(share > 0.0 && share < 1.0) {
            let reason = format!("is {share}, but must be above 0 and below 1");
            return Err(TracerError::Flag { flag: "--validation-share", reason });
        }
        if count < 2 {
            return Ok(None);
        }
        let mut order: Vec<u32> = (0..count as u32).collect();
        order.shuffle(&mut pixels::validation_rng(self.seed));
        let mut train = order.split_off(((count as f64 * share).round() as usize).clamp(1, count - 1));
        train.sort_unstable();
        order.sort_unstable();
        Ok(Some([train, order]))
    }
}

/// Rows and columns that a model takes and memory can hold.
pub(super) fn check_size(size: i64, least_size: i64) -> Result<usize> {
    let bad = |reason| TracerError::Flag { flag: "--input-size", reason };
    if !(1..=MOST_SIZE).contains(&size) {
        return Err(bad(format!("is {size}, but must be from 1 to {MOST_SIZE}")));
    }
    if size < least_size {
        return Err(bad(format!("is {size}, but the model needs at least {least_size}")));
    }
    Ok(size as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validation_is_a_seeded_share() {
        let options = Options::default();
        let [train, validation] = options.divide(100).unwrap().unwrap();
        assert_eq!((train.len(), validation.len()), (90, 10));
        let mut all = [train.clone(), validation.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        assert!(train.is_sorted() && validation.is_sorted());
        assert_eq!(options.divide(100).unwrap().unwrap()[1], validation);
        assert_ne!(Options { seed: 2, ..options.clone() }.divide(100).unwrap().unwrap()[1], validation);
        // One at least, and not all.
        assert_eq!(options.divide(2).unwrap().unwrap().map(|part| part.len()), [1, 1]);
        let most = Options { validation_share: 0.999, ..options.clone() };
        assert_eq!(most.divide(3).unwrap().unwrap().map(|part| part.len()), [1, 2]);
        assert!(options.divide(1).unwrap().is_none());
        for share in [0.0, 1.0, -0.5, f64::NAN] {
            let error = Options { validation_share: share, ..options.clone() }.divide(10).unwrap_err().to_string();
            assert!(error.starts_with("--validation-share: is "), "{error}");
        }
    }

    #[test]
    fn flags_without_effect_are_refused() {
        let refused = |options: Options, source| options.check_use("a-set", source).map_err(|error| error.to_string());
        let folder = Options { train: Some("photos".into()), ..Options::default() };
        assert_eq!(refused(folder.clone(), Source::OwnImages), Ok(()));
        let error = refused(folder, Source::Images).unwrap_err();
        assert!(error.starts_with("--train-dir: has no effect on --dataset a-set"), "{error}");
        let augment = Options { augment: true, ..Options::default() };
        assert_eq!(refused(augment.clone(), Source::Images), Ok(()));
        assert!(refused(augment, Source::Text).unwrap_err().starts_with("--augment: "));
        let lines = Options { source: Some("lines".into()), ..Options::default() };
        assert_eq!(refused(lines.clone(), Source::OwnText), Ok(()));
        assert!(refused(lines, Source::Text).is_err());
    }
}
