//! The user's own images: JPEG and PNG files, decoded when a batch needs them.

use super::files::Origin;
use super::folder::{self, Listing};
use super::jpeg;
use super::left_out::{LeftOut, LeftOutReason};
use super::pixels::{self, CropWindow, ImagePlanes, NormalisationTable};
use super::{Augment, Batch, DataOptions, Dataset, Split, Task, digest, options};
use crate::error::{Result, TracerError};
use image::imageops::{self, FilterType};
use image::{ImageFormat, ImageReader, Limits, RgbImage};
use rand::RngExt;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tch::Tensor;

/// Mean and standard deviation of `ImageNet`'s red, green and blue, as shares of the maximum.
const IMAGENET: [[f32; 2]; 3] = [[0.485, 0.229], [0.456, 0.224], [0.406, 0.225]];
/// Default rows and columns.
const DEFAULT_SIZE: i64 = 224;
/// The shorter side before cropping to [`DEFAULT_SIZE`].
const SHORTER_SIDE: usize = 256;

/// Maximum rows or columns that an image may declare.
const MAX_SIDE: u32 = 20_000;
/// Maximum memory for decoding an image, in bytes.
const MAX_BYTES: u64 = 256 << 20;
/// Maximum ratio of the longer side to the shorter side.
const MAX_ASPECT: usize = 64;
/// Bytes from which a file's format is detected.
const HEAD_BYTES: u64 = 64;
/// Number of classes that the summary names.
const NAMED_CLASSES: usize = 3;

#[derive(Debug, Clone)]
struct Photo {
    path: PathBuf,
    label: i64,
}

impl Photo {
    /// Label, last two parts of the path, and size of the file, by which a resumed run detects
    /// changes.
    fn identity(&self) -> Vec<u8> {
        let mut last: Vec<_> = self.path.iter().rev().take(2).map(|part| part.to_string_lossy()).collect();
        last.reverse();
        let bytes = self.path.metadata().map_or(0, |metadata| metadata.len());
        format!("{} {} {bytes}", self.label, last.join("/")).into_bytes()
    }
}

struct PhotoSplit {
    photos: Vec<Photo>,
    /// Rows and columns.
    size: usize,
    /// Whether images may be augmented.
    augmented: bool,
    table: NormalisationTable,
}

impl PhotoSplit {
    /// Writes a normalised image into `out`, `[channels, rows, columns]`.
    fn write(&self, index: u32, augment: Option<Augment>, out: &mut [f32]) -> Result<()> {
        let path = &self.photos[index as usize].path;
        let image = decode(path).map_err(|refusal| refusal.into_error(path))?;
        let [rows, columns] = size_before_crop(&image, self.size);
        let image = imageops::resize(&image, columns as u32, rows as u32, FilterType::Triangle);
        let mut window = CropWindow::centred([rows, columns], [self.size; 2]);
        if let Some(augment) = augment.filter(|_| self.augmented) {
            let mut rng = pixels::sample_rng(augment, index);
            window.top = pixels::draw(&mut rng, rows - self.size);
            window.left = pixels::draw(&mut rng, columns - self.size);
            window.flip = rng.random();
        }
        ImagePlanes::from_rgb(&image).write(window, &self.table, out);
        Ok(())
    }
}

impl Split for PhotoSplit {
    fn len(&self) -> usize {
        self.photos.len()
    }

    fn load(&self, indices: &[u32], augment: Option<Augment>) -> Result<Batch> {
        let size = 3 * self.size * self.size;
        let mut images = vec![0.0; indices.len() * size];
        let write = |(out, &index): (&mut [f32], &u32)| self.write(index, augment, out);
        let written: Vec<Result<()>> = images.par_chunks_mut(size).zip(indices).map(write).collect();
        // The error is the first one in the order of the indices, not in time.
        written.into_iter().collect::<Result<()>>()?;
        let labels: Vec<i64> = indices.iter().map(|&index| self.photos[index as usize].label).collect();
        let shape = [indices.len(), 3, self.size, self.size].map(|size| size as i64);
        Ok(Batch::Images {
            images: Tensor::f_from_slice(&images)?.f_reshape(shape)?,
            labels: Tensor::f_from_slice(&labels)?,
        })
    }
}

/// Computes rows and columns before the crop: the shorter side is to `size` as 256 is to 224.
fn size_before_crop(image: &RgbImage, size: usize) -> [usize; 2] {
    let [rows, columns] = [image.height(), image.width()].map(|side| side as usize);
    let least = rows.min(columns);
    [rows, columns].map(|side| shorter_side(size) * side / least)
}

/// Computes the shorter side of an image before it is cropped to `size`.
fn shorter_side(size: usize) -> usize {
    let default = DEFAULT_SIZE as usize;
    (size * SHORTER_SIDE + default / 2) / default
}

/// The reason why an image cannot be used.
#[derive(Debug)]
struct ImageRefusal {
    /// The kind of reason, for counting.
    reason: LeftOutReason,
    /// The description for this image.
    text: String,
}

impl ImageRefusal {
    fn new(reason: LeftOutReason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }

    fn into_error(self, path: &Path) -> TracerError {
        TracerError::CorruptImage { path: path.to_owned(), reason: self.text }
    }
}

/// Detects JPEG or PNG from a file's first bytes.
fn detect_format(head: &[u8]) -> std::result::Result<ImageFormat, ImageRefusal> {
    if head.is_empty() {
        return Err(ImageRefusal::new(LeftOutReason::Empty, "is empty"));
    }
    match image::guess_format(head) {
        Ok(format @ (ImageFormat::Jpeg | ImageFormat::Png)) => Ok(format),
        Ok(other) => {
            let text = format!("is neither a JPEG nor a PNG file, but {other:?}");
            Err(ImageRefusal::new(LeftOutReason::OtherFormat, text))
        }
        Err(_) => Err(ImageRefusal::new(LeftOutReason::OtherFormat, "is neither a JPEG nor a PNG file")),
    }
}

/// Checks a file's format, reading only its first bytes.
fn check_head(path: &Path) -> std::result::Result<(), ImageRefusal> {
    let unreadable = |error| ImageRefusal::new(LeftOutReason::Unreadable, format!("cannot be read: {error}"));
    let mut head = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(HEAD_BYTES).read_to_end(&mut head).map_err(unreadable)?;
    detect_format(&head).map(drop)
}

/// Refuses files whose first bytes are not those of an image, before training starts.
fn check_heads(photos: &[Photo]) -> Result<()> {
    let heads = photos.par_iter().map(|photo| check_head(&photo.path).err());
    let refusals: Vec<Option<ImageRefusal>> = heads.collect();
    let pairs = photos.iter().zip(refusals);
    let mut refused = pairs.filter_map(|(photo, refusal)| Some((photo, refusal?)));
    let Some((photo, mut first)) = refused.next() else { return Ok(()) };
    let more = refused.count();
    if more > 0 {
        first.text.push_str(&format!(" ({more} more cannot be used either)"));
    }
    Err(first.into_error(&photo.path))
}

fn decode(path: &Path) -> std::result::Result<RgbImage, ImageRefusal> {
    let unreadable = |error| ImageRefusal::new(LeftOutReason::Unreadable, format!("cannot be read: {error}"));
    let undecodable = |error| ImageRefusal::new(LeftOutReason::Undecodable, format!("cannot be decoded: {error}"));
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let format = detect_format(&bytes)?;
    let picture = if format == ImageFormat::Jpeg {
        // The decoder would fill the missing part with grey.
        let truncated = || ImageRefusal::new(LeftOutReason::Truncated, "is a truncated JPEG file");
        jpeg::find_picture(&bytes).ok_or_else(truncated)?
    } else {
        bytes.as_slice()
    };
    let mut reader = ImageReader::with_format(Cursor::new(picture), format);
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let image = reader.decode().map_err(undecodable)?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    let (longer, shorter) = (width.max(height), width.min(height));
    if shorter == 0 || longer > MAX_ASPECT * shorter {
        let text = format!("is {width} x {height} pixels, too narrow to be cropped");
        return Err(ImageRefusal::new(LeftOutReason::Narrow, text));
    }
    Ok(image.into_rgb8())
}

/// Opens the folders of images that the options name.
pub(super) fn open(options: &DataOptions, least_size: i64) -> Result<Dataset> {
    let Some(folder) = &options.train else {
        let reason = "is needed by --dataset images: a folder with a sub-folder of images for each class".to_owned();
        return Err(TracerError::Flag { flag: "--train-dir", reason });
    };
    let size = options::check_size(options.input_size.unwrap_or(DEFAULT_SIZE), least_size)?;
    let origin = Origin::Flag("--train-dir");
    let found = folder::list(folder, origin)?;
    let classes: Vec<String> = found.classes.keys().cloned().collect();
    if classes.len() < 2 {
        return Err(origin.bad(folder, format!("holds one class ({}), but training needs two", classes[0])));
    }
    let mut warnings = Vec::new();
    if found.flat && found.classes.values().all(|images| images.len() == 1) {
        warnings.push(format!(
            "{}: each of its {} images is its own class, because the part of a name before the first `_` is \
             the class; if this is not intended, sort the images into sub-folders, one per class",
            folder.display(),
            classes.len()
        ));
    }
    let listed = list_classes(&classes, found.flat);
    let mut left_out = LeftOut::default();
    let mut photos = |found| label_photos(found, &classes, options.skip_corrupt, &mut left_out);
    warnings.extend(found.warnings.iter().cloned());
    let mut train = photos(found)?;
    let (validation, chosen) = if let Some(folder) = &options.validation {
        let found = folder::list(folder, Origin::Flag("--validation-dir"))?;
        if let Some(class) = found.classes.keys().find(|class| !classes.contains(class)) {
            let reason = format!("class {class} is not in --train-dir; remove it, or add it there");
            return Err(Origin::Flag("--validation-dir").bad(folder, reason));
        }
        // A folder that serves both purposes gives each warning once.
        let more: Vec<String> = found.warnings.iter().filter(|text| !warnings.contains(text)).cloned().collect();
        warnings.extend(more);
        let validation = photos(found)?;
        if validation.is_empty() {
            return Err(Origin::Flag("--validation-dir").bad(folder, "holds no image that can be decoded"));
        }
        (validation, "--validation-dir".to_owned())
    } else {
        let Some([kept, chosen]) = options.divide(train.len())? else {
            let reason = format!("holds too few images ({}) for training and validation", train.len());
            return Err(origin.bad(folder, reason));
        };
        let pick = |indices: &[u32]| indices.iter().map(|&index| train[index as usize].clone()).collect::<Vec<_>>();
        let (kept, chosen) = (pick(&kept), pick(&chosen));
        train = kept;
        (chosen, format!("a share of {}, chosen with seed {}", options.validation_share, options.seed))
    };
    if train.is_empty() {
        return Err(origin.bad(folder, "holds no image that can be decoded"));
    }
    let mut description = describe(size, options.augment, chosen);
    description.insert("classes".to_owned(), listed);
    description.insert("left out".to_owned(), left_out.to_string());
    description.insert("digest".to_owned(), digest(train.iter().chain(&validation).map(Photo::identity)));
    let split = |photos, augmented| -> Arc<dyn Split> {
        Arc::new(PhotoSplit { photos, size, augmented, table: NormalisationTable::from_share_statistics(&IMAGENET) })
    };
    Ok(Dataset {
        name: "images".to_owned(),
        task: Task::Images { channels: 3, size: [size as i64; 2], classes: classes.len() as i64 },
        train: split(train, options.augment),
        validation: split(validation, false),
        vocabulary: None,
        reference_lines: Vec::new(),
        description,
        warnings,
    })
}

fn describe(size: usize, augmented: bool, validation: String) -> BTreeMap<String, String> {
    let shorter = shorter_side(size);
    let augmentation = if augmented { "random crops, random flips" } else { "none" };
    BTreeMap::from([
        ("input".to_owned(), format!("shorter side resized to {shorter}, cropped to {size} x {size}")),
        ("augmentation".to_owned(), augmentation.to_owned()),
        ("normalisation".to_owned(), "ImageNet's mean and deviation".to_owned()),
        ("validation".to_owned(), validation),
    ])
}

/// Summarises the classes: their number and the first names.
fn list_classes(classes: &[String], flat: bool) -> String {
    let shown = classes[..classes.len().min(NAMED_CLASSES)].join(", ");
    let more = if classes.len() > NAMED_CLASSES { ", ..." } else { "" };
    let by_name = if flat { " by the files' names" } else { "" };
    format!("{}{by_name} ({shown}{more})", classes.len())
}

/// Labels the images by the order of the classes; notes the files that are left out.
///
/// If `skip_corrupt` is set, images that cannot be decoded are left out.
fn label_photos(found: Listing, classes: &[String], skip_corrupt: bool, left_out: &mut LeftOut) -> Result<Vec<Photo>> {
    left_out.extend(found.left_out);
    let mut photos = Vec::new();
    for (class, paths) in found.classes {
        let label = classes.iter().position(|known| *known == class).expect("the caller has compared the classes");
        photos.extend(paths.into_iter().map(|path| Photo { path, label: label as i64 }));
    }
    if skip_corrupt {
        return Ok(remove_corrupt(photos, left_out));
    }
    check_heads(&photos)?;
    Ok(photos)
}

/// Returns the images that can be decoded; notes the others as left out.
///
/// All are decoded before the first epoch, so that corrupt images do not affect the order of
/// samples.
fn remove_corrupt(photos: Vec<Photo>, left_out: &mut LeftOut) -> Vec<Photo> {
    let decoded = photos.par_iter().map(|photo| decode(&photo.path).err());
    let refusals: Vec<Option<ImageRefusal>> = decoded.collect();
    let mut kept = Vec::new();
    for (photo, refusal) in photos.into_iter().zip(refusals) {
        let Some(refusal) = refusal else {
            kept.push(photo);
            continue;
        };
        // A folder for both training and validation is read twice.
        if !left_out.contains(&photo.path) {
            tracing::warn!("left out: {}: {}", photo.path.display(), refusal.text);
        }
        left_out.add(photo.path, refusal.reason);
    }
    kept
}

#[cfg(test)]
#[path = "photos_tests.rs"]
mod tests;
