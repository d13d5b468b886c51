//! Options of data sets, and their checks.

use super::{DataSource, pixels};
use crate::error::{Result, TracerError};
use rand::seq::SliceRandom;
use std::path::PathBuf;

/// Maximum rows and columns of resized images.
const MAX_SIZE: i64 = 4096;

/// Options of data sets.
#[derive(Debug, Clone, PartialEq)]
pub struct DataOptions {
    /// Folder with the downloaded data sets' folders; `data` by default.
    pub data_dir: PathBuf,
    /// `images`: folder of training images.
    pub train: Option<PathBuf>,
    /// `images`: folder of validation images; by default a share of the training images.
    pub validation: Option<PathBuf>,
    /// Share of the samples for validation, if a data set has no validation part; above 0 and below
    /// 1, 0.1 by default.
    pub validation_share: f64,
    /// Rows and columns of resized images. By default, `images` has 224; downloaded images keep
    /// their size, padded with black to the model's minimum.
    pub input_size: Option<i64>,
    /// Whether training images are cropped and flipped at random; off by default.
    pub augment: bool,
    /// `images`: whether images that cannot be decoded are left out instead of refused; off by
    /// default.
    pub skip_corrupt: bool,
    /// `text`: file of source sentences, one per line.
    pub source: Option<PathBuf>,
    /// `text`: file of the translations of `source`, line by line.
    pub target: Option<PathBuf>,
    /// `text`: file of source sentences for validation; by default a share of the training
    /// sentences.
    pub validation_source: Option<PathBuf>,
    /// `text`: file of the translations of `validation_source`, line by line.
    pub validation_target: Option<PathBuf>,
    /// Text: maximum size of the vocabulary; 8000 by default.
    pub vocabulary_size: usize,
    /// Text: maximum tokens per sentence, EOS included; 32 by default.
    pub max_length: i64,
    /// Seed that chooses validation samples; 1 by default.
    pub seed: u64,
}

impl Default for DataOptions {
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

impl DataOptions {
    /// Refuses flags that the data set would ignore.
    pub(super) fn check_use(&self, name: &str, source: DataSource) -> Result<()> {
        let images = matches!(source, DataSource::Images | DataSource::OwnImages);
        let (own_images, own_text) = (source == DataSource::OwnImages, source == DataSource::OwnText);
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
        for (flag, given, used, users) in flags {
            if given && !used {
                let reason = format!("has no effect on --dataset {name}, only on {users}; leave it out");
                return Err(TracerError::Flag { flag, reason });
            }
        }
        Ok(())
    }

    /// Returns the size of resized images, if it is set; refuses one that the model cannot take.
    pub(super) fn checked_input_size(&self, least_size: i64) -> Result<Option<usize>> {
        self.input_size.map(|size| check_size(size, least_size)).transpose()
    }

    /// Divides `0..count` into training and validation samples, both ascending.
    ///
    /// The choice depends only on seed, share and count. `None` if there are too few samples.
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

/// Checks the rows and columns of images: the model must accept them, and memory must hold them.
pub(super) fn check_size(size: i64, least_size: i64) -> Result<usize> {
    let bad = |reason| TracerError::Flag { flag: "--input-size", reason };
    if !(1..=MAX_SIZE).contains(&size) {
        return Err(bad(format!("is {size}, but must be from 1 to {MAX_SIZE}")));
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
        let options = DataOptions::default();
        let [train, validation] = options.divide(100).unwrap().unwrap();
        assert_eq!((train.len(), validation.len()), (90, 10));
        let mut all = [train.clone(), validation.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        assert!(train.is_sorted() && validation.is_sorted());
        assert_eq!(options.divide(100).unwrap().unwrap()[1], validation);
        assert_ne!(DataOptions { seed: 2, ..options.clone() }.divide(100).unwrap().unwrap()[1], validation);
        // Each part has at least one sample.
        assert_eq!(options.divide(2).unwrap().unwrap().map(|part| part.len()), [1, 1]);
        let most = DataOptions { validation_share: 0.999, ..options.clone() };
        assert_eq!(most.divide(3).unwrap().unwrap().map(|part| part.len()), [1, 2]);
        assert!(options.divide(1).unwrap().is_none());
        for share in [0.0, 1.0, -0.5, f64::NAN] {
            let error = DataOptions { validation_share: share, ..options.clone() }.divide(10).unwrap_err().to_string();
            assert!(error.starts_with("--validation-share: is "), "{error}");
        }
    }

    #[test]
    fn flags_without_effect_are_refused() {
        let refused =
            |options: DataOptions, source| options.check_use("a-set", source).map_err(|error| error.to_string());
        let folder = DataOptions { train: Some("photos".into()), ..DataOptions::default() };
        assert_eq!(refused(folder.clone(), DataSource::OwnImages), Ok(()));
        let error = refused(folder, DataSource::Images).unwrap_err();
        assert!(error.starts_with("--train-dir: has no effect on --dataset a-set"), "{error}");
        let augment = DataOptions { augment: true, ..DataOptions::default() };
        assert_eq!(refused(augment.clone(), DataSource::Images), Ok(()));
        assert!(refused(augment, DataSource::Text).unwrap_err().starts_with("--augment: "));
        let lines = DataOptions { source: Some("lines".into()), ..DataOptions::default() };
        assert_eq!(refused(lines.clone(), DataSource::OwnText), Ok(()));
        assert!(refused(lines, DataSource::Text).is_err());
    }
}
