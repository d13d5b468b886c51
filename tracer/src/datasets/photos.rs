//! The user's own photos: JPEG and PNG files, decoded when a batch needs them.

use super::files::Origin;
use super::folder::{self, Listing};
use super::jpeg;
use super::left_out::{LeftOut, Reason};
use super::pixels::{self, Planes, Table, Window};
use super::{Augment, Batch, Dataset, Options, Split, Task, digest, options};
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

/// Mean and standard deviation of `ImageNet`'s red, green and blue, as shares of white.
const IMAGENET: [[f32; 2]; 3] = [[0.485, 0.229], [0.456, 0.224], [0.406, 0.225]];
/// Rows and columns where none are asked for.
const SIZE: i64 = 224;
/// The shorter side before the crop, for [`SIZE`] rows and columns.
const SHORTER: usize = 256;

/// An image may announce as many rows or columns, and take as much memory, before it is refused.
const MOST_SIDE: u32 = 20_000;
const MOST_BYTES: u64 = 256 << 20;
/// How many times longer than the shorter side the longer one may be.
const MOST_ASPECT: usize = 64;
/// Bytes by which a file's format is told.
const HEAD: u64 = 64;
/// Classes that the first line of a run names.
const NAMED_CLASSES: usize = 3;

#[derive(Debug, Clone)]
struct Photo {
    path: PathBuf,
    label: i64,
}

impl Photo {
    /// Class, the last two parts of the path, and size of the file: what a resumed run would not
    /// notice otherwise.
    fn identity(&self) -> Vec<u8> {
        let mut last: Vec<_> = self.path.iter().rev().take(2).map(|part| part.to_string_lossy()).collect();
        last.reverse();
        let bytes = self.path.metadata().map_or(0, |metadata| metadata.len());
        format!("{} {} {bytes}", self.label, last.join("/")).into_bytes()
    }
}

struct Photos {
    all: Vec<Photo>,
    /// Rows and columns.
    size: usize,
    /// Whether it may be augmented.
    augmented: bool,
    table: Table,
}

impl Photos {
    fn write(&self, index: u32, augment: Option<Augment>, out: &mut [f32]) -> Result<()> {
        let path = &self.all[index as usize].path;
        let image = decode(path).map_err(|refusal| refusal.into_error(path))?;
        let [rows, columns] = resized(&image, self.size);
        let image = imageops::resize(&image, columns as u32, rows as u32, FilterType::Triangle);
        let mut window = Window::centred([rows, columns], [self.size; 2]);
        if let Some(augment) = augment.filter(|_| self.augmented) {
            let mut rng = pixels::sample_rng(augment, index);
            window.top = pixels::draw(&mut rng, rows - self.size);
            window.left = pixels::draw(&mut rng, columns - self.size);
            window.flip = rng.random();
        }
        Planes::from_rgb(&image).write(window, &self.table, out);
        Ok(())
    }
}

impl Split for Photos {
    fn len(&self) -> usize {
        self.all.len()
    }

    fn load(&self, indices: &[u32], augment: Option<Augment>) -> Result<Batch> {
        let size = 3 * self.size * self.size;
        let mut images = vec![0.0; indices.len() * size];
        let write = |(out, &index): (&mut [f32], &u32)| self.write(index, augment, out);
        let written: Vec<Result<()>> = images.par_chunks_mut(size).zip(indices).map(write).collect();
        // The first error in the order of the indices, whichever was met first.
        written.into_iter().collect::<Result<()>>()?;
        let labels: Vec<i64> = indices.iter().map(|&index| self.all[index as usize].label).collect();
        let shape = [indices.len(), 3, self.size, self.size].map(|size| size as i64);
        Ok(Batch::Images {
            images: Tensor::f_from_slice(&images)?.f_reshape(shape)?,
            labels: Tensor::f_from_slice(&labels)?,
        })
    }
}

/// Rows and columns such that the shorter side is as much above `size` as 256 is above 224.
fn resized(image: &RgbImage, size: usize) -> [usize; 2] {
    let [rows, columns] = [image.height(), image.width()].map(|side| side as usize);
    let (least, shorter) = (rows.min(columns), (size * SHORTER + SIZE as usize / 2) / SIZE as usize);
    [rows, columns].map(|side| shorter * side / least)
}

/// Why an image cannot be used.
#[derive(Debug)]
struct Refusal {
    /// The kind of reason, to be counted.
    reason: Reason,
    /// What is wrong with this one.
    text: String,
}

impl Refusal {
    fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }

    fn into_error(self, path: &Path) -> TracerError {
        TracerError::CorruptImage { path: path.to_owned(), reason: self.text }
    }
}

/// JPEG or PNG, by a file's first bytes.
fn detect_format(head: &[u8]) -> std::result::Result<ImageFormat, Refusal> {
    if head.is_empty() {
        return Err(Refusal::new(Reason::Empty, "is empty"));
    }
    match image::guess_format(head) {
        Ok(format @ (ImageFormat::Jpeg | ImageFormat::Png)) => Ok(format),
        Ok(other) => {
            let text = format!("is neither a JPEG nor a PNG file, but {other:?}");
            Err(Refusal::new(Reason::OtherFormat, text))
        }
        Err(_) => Err(Refusal::new(Reason::OtherFormat, "is neither a JPEG nor a PNG file")),
    }
}

/// The same, reading no more than these bytes.
fn check_head(path: &Path) -> std::result::Result<(), Refusal> {
    let unreadable = |error| Refusal::new(Reason::Unreadable, format!("cannot be read: {error}"));
    let mut head = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(HEAD).read_to_end(&mut head).map_err(unreadable)?;
    detect_format(&head).map(drop)
}

/// Refuses files that are no images by their first bytes, before any of them is drawn.
fn check_heads(photos: &[Photo]) -> Result<()> {
    let refusals: Vec<Option<Refusal>> = photos.par_iter().map(|photo| check_head(&photo.path).err()).collect();
    let mut refused = photos.iter().zip(refusals).filter_map(|(photo, refusal)| Some((photo, refusal?)));
    let Some((photo, mut first)) = refused.next() else { return Ok(()) };
    let more = refused.count();
    if more > 0 {
        first.text.push_str(&format!(" ({more} more cannot be used either)"));
    }
    Err(first.into_error(&photo.path))
}

fn decode(path: &Path) -> std::result::Result<RgbImage, Refusal> {
    let unreadable = |error| Refusal::new(Reason::Unreadable, format!("cannot be read: {error}"));
    let undecodable = |error| Refusal::new(Reason::Undecodable, format!("cannot be decoded: {error}"));
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let format = detect_format(&bytes)?;
    let picture = if format == ImageFormat::Jpeg {
        // The decoder would take what is missing for grey.
        let broken_off = || Refusal::new(Reason::BrokenOff, "is a JPEG file that breaks off");
        jpeg::picture(&bytes).ok_or_else(broken_off)?
    } else {
        bytes.as_slice()
    };
    let mut reader = ImageReader::with_format(Cursor::new(picture), format);
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(MOST_SIDE);
    limits.max_image_height = Some(MOST_SIDE);
    limits.max_alloc = Some(MOST_BYTES);
    reader.limits(limits);
    let image = reader.decode().map_err(undecodable)?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    let (longer, shorter) = (width.max(height), width.min(height));
    if shorter == 0 || longer > MOST_ASPECT * shorter {
        let text = format!("is {width} x {height} pixels, too narrow to be cropped");
        return Err(Refusal::new(Reason::Narrow, text));
    }
    Ok(image.into_rgb8())
}

/// Opens the folders of images that the options name.
pub(super) fn open(options: &Options, least_size: i64) -> Result<Dataset> {
    let Some(folder) = &options.train else {
        let reason = "is needed by --dataset images: a folder with a sub-folder of images for each class".to_owned();
        return Err(TracerError::Flag { flag: "--train-dir", reason });
    };
    let size = options::check_size(options.input_size.unwrap_or(SIZE), least_size)?;
    let origin = Origin::Flag("--train-dir");
    let found = folder::list(folder, origin)?;
    let classes: Vec<String> = found.classes.keys().cloned().collect();
    if classes.len() < 2 {
        return Err(origin.bad(folder, format!("holds one class ({}), but training needs two", classes[0])));
    }
    let mut warnings = Vec::new();
    if found.flat && found.classes.values().all(|images| images.len() == 1) {
        warnings.push(format!(
            "{}: each of its {} images is a class of its own, as classes are what stands before the first `_` of a \
             name; if that was not meant, sort the images into sub-folders, one a class",
            folder.display(),
            classes.len()
        ));
    }
    let listed = list_classes(&classes, found.flat);
    let mut left_out = LeftOut::default();
    let mut photos = |found| label(found, &classes, options.skip_corrupt, &mut left_out);
    warnings.extend(found.warnings.iter().cloned());
    let mut train = photos(found)?;
    let (validation, chosen) = if let Some(folder) = &options.validation {
        let found = folder::list(folder, Origin::Flag("--validation-dir"))?;
        if let Some(class) = found.classes.keys().find(|class| !classes.contains(class)) {
            let reason = format!("class {class} is none of those in --train-dir; remove it, or add it there");
            return Err(Origin::Flag("--validation-dir").bad(folder, reason));
        }
        // Of a folder that is also trained on, they are there already.
        let more: Vec<String> = found.warnings.iter().filter(|text| !warnings.contains(text)).cloned().collect();
        warnings.extend(more);
        let validation = photos(found)?;
        if validation.is_empty() {
            return Err(Origin::Flag("--validation-dir").bad(folder, "holds no image that can be decoded"));
        }
        (validation, "--validation-dir".to_owned())
    } else {
        let Some([kept, chosen]) = options.divide(train.len())? else {
            let reason = format!("holds too few images ({}) to train and to validate on", train.len());
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
        Arc::new(Photos { all: photos, size, augmented, table: Table::of_shares(&IMAGENET) })
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
    let shorter = (size * SHORTER + SIZE as usize / 2) / SIZE as usize;
    let augmentation = if augmented { "random crops, random flips" } else { "none" };
    BTreeMap::from([
        ("input".to_owned(), format!("shorter side resized to {shorter}, cropped to {size} x {size}")),
        ("augmentation".to_owned(), augmentation.to_owned()),
        ("normalisation".to_owned(), "ImageNet's mean and deviation".to_owned()),
        ("validation".to_owned(), validation),
    ])
}

/// How many classes there are, and the first few.
fn list_classes(classes: &[String], flat: bool) -> String {
    let shown = classes[..classes.len().min(NAMED_CLASSES)].join(", ");
    let more = if classes.len() > NAMED_CLASSES { ", ..." } else { "" };
    let by_name = if flat { " by the files' names" } else { "" };
    format!("{}{by_name} ({shown}{more})", classes.len())
}

/// The images class by class, labelled by the classes' order; without those that cannot be decoded, if these are
/// skipped. Notes what is left out.
fn label(found: Listing, classes: &[String], skip_corrupt: bool, left_out: &mut LeftOut) -> Result<Vec<Photo>> {
    left_out.extend(found.left_out);
    let mut photos = Vec::new();
    for (class, paths) in found.classes {
        let label = classes.iter().position(|known| *known == class).expect("the caller has compared the classes");
        photos.extend(paths.into_iter().map(|path| Photo { path, label: label as i64 }));
    }
    if skip_corrupt {
        return Ok(without_corrupt(photos, left_out));
    }
    check_heads(&photos)?;
    Ok(photos)
}

/// Those that can be decoded.
///
/// All are tried at once, before the first epoch, so that the order of samples does not depend on
/// when a corrupt one would be met.
fn without_corrupt(photos: Vec<Photo>, left_out: &mut LeftOut) -> Vec<Photo> {
    let refusals: Vec<Option<Refusal>> = photos.par_iter().map(|photo| decode(&photo.path).err()).collect();
    let mut kept = Vec::new();
    for (photo, refusal) in photos.into_iter().zip(refusals) {
        let Some(refusal) = refusal else {
            kept.push(photo);
            continue;
        };
        // A folder that is both trained and validated on is read twice.
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
