use super::*;
use crate::datasets::DatasetSpec;
use crate::datasets::tests::shared;
use image::{DynamicImage, GrayImage, Luma, Rgb, Rgba, RgbaImage};
use tch::Kind;
use tempfile::TempDir;

/// Creates a folder with two classes in sub-folders: 13 images of various sizes and kinds.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..6_u32 {
        let shade = |x: u32, y: u32| (x * 7 + y * 13 + i * 31) as u8;
        let colour = RgbImage::from_fn(40 + i, 30, |x, y| Rgb([shade(x, y), shade(y, x), i as u8]));
        save(&dir, &format!("dogs/more/{i}.JPG"), &colour.into());
        let clear = RgbaImage::from_fn(20, 50 + i, |x, y| Rgba([shade(x, y), 0, shade(y, x), 128]));
        save(&dir, &format!("cats/{i}.png"), &clear.into());
    }
    save(&dir, "dogs/grey.jpeg", &GrayImage::from_pixel(33, 44, Luma([100])).into());
    dir
}

fn save(dir: &TempDir, name: &str, image: &DynamicImage) {
    let path = dir.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    image.save(path).unwrap();
}

fn options(dir: &TempDir) -> DataOptions {
    DataOptions { train: Some(dir.path().to_owned()), input_size: Some(28), ..DataOptions::default() }
}

fn open(options: &DataOptions, least_size: i64) -> std::result::Result<Dataset, String> {
    DatasetSpec::find("images").unwrap().open(options, least_size).map_err(|error| error.to_string())
}

fn load(split: &dyn Split, augment: Option<Augment>) -> (Vec<f32>, Vec<i64>) {
    let indices: Vec<u32> = (0..split.len() as u32).collect();
    let Batch::Images { images, labels } = split.load(&indices, augment).unwrap() else { panic!("not images") };
    assert_eq!(images.size(), [indices.len() as i64, 3, 28, 28]);
    assert_eq!(images.kind(), Kind::Float);
    (images.flatten(0, -1).try_into().unwrap(), labels.try_into().unwrap())
}

/// Returns the error of an image that cannot be decoded.
fn refusal(path: &Path) -> String {
    decode(path).unwrap_err().into_error(path).to_string()
}

#[test]
fn sub_folders_are_read() {
    let dir = folder();
    let set = open(&options(&dir), 0).unwrap();
    assert_eq!(set.task, Task::Images { channels: 3, size: [28, 28], classes: 2 });
    assert_eq!((set.train.len(), set.validation.len()), (12, 1));
    assert_eq!(set.summary("12 training samples"), "images: 12 training samples; classes: 2 (cats, dogs)");
    let (_, labels) = load(set.train.as_ref(), None);
    assert!(labels.is_sorted() && labels.contains(&0) && labels.contains(&1));
    // The same folder for training and validation.
    let all = DataOptions { validation: options(&dir).train, ..options(&dir) };
    let set = open(&all, 0).unwrap();
    assert_eq!((set.train.len(), set.validation.len()), (13, 13));
    let (images, labels) = load(set.train.as_ref(), None);
    assert_eq!(labels, [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1]);
    // In the order of names, the grey image is the first dog.
    let grey = &images[6 * 3 * 784..7 * 3 * 784];
    for (channel, [mean, deviation]) in grey.chunks(784).zip(IMAGENET) {
        let expected = (100.0 / 255.0 - mean) / deviation;
        assert!(channel.iter().all(|value| (value - expected).abs() < 0.02), "{expected}: {:?}", &channel[..5]);
    }
}

#[test]
fn flat_folders_are_read() {
    let dir = tempfile::tempdir().unwrap();
    for (name, shade) in [("b_2.png", 20), ("a_1.png", 10), ("b_1.png", 30), ("b_3.png", 40)] {
        save(&dir, name, &RgbImage::from_pixel(30, 30, Rgb([shade; 3])).into());
    }
    let set = open(&DataOptions { validation: options(&dir).train, ..options(&dir) }, 0).unwrap();
    let (images, labels) = load(set.train.as_ref(), None);
    assert_eq!(labels, [0, 1, 1, 1]);
    let shade = |index: usize| (images[index * 3 * 784] * 0.229 + 0.485) * 255.0;
    for (index, expected) in [10.0, 30.0, 20.0, 40.0].into_iter().enumerate() {
        assert!((shade(index) - expected).abs() < 0.01, "{}", shade(index));
    }
}

#[test]
fn augmentation_is_repeated_and_validation_never_changed() {
    let dir = folder();
    let set = open(&DataOptions { augment: true, ..options(&dir) }, 0).unwrap();
    let first = Some(Augment { seed: 3, epoch: 0 });
    let batch = load(set.train.as_ref(), first);
    assert_ne!(batch.0, load(set.train.as_ref(), None).0);
    assert_ne!(batch.0, load(set.train.as_ref(), Some(Augment { seed: 3, epoch: 1 })).0);
    for threads in [1, 2, 4] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(batch, pool.install(|| load(set.train.as_ref(), first)));
    }
    assert_eq!(load(set.validation.as_ref(), None), load(set.validation.as_ref(), first));
    let plain = open(&options(&dir), 0).unwrap();
    assert_eq!(load(plain.train.as_ref(), None), load(plain.train.as_ref(), first));
}

#[test]
fn corrupt_images_are_named_or_left_out() {
    let dir = folder();
    let whole = std::fs::read(dir.path().join("dogs/more/1.JPG")).unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    write("dogs/broken.jpg", &whole[..whole.len() / 2]);
    let all = DataOptions { validation: options(&dir).train, ..options(&dir) };
    let set = open(&all, 0).unwrap();
    let error = set.train.load(&[7, 6, 0], None).unwrap_err().to_string();
    assert!(error.contains("dogs/broken.jpg: is a truncated JPEG file"), "{error}");
    assert!(error.contains("--skip-corrupt"), "{error}");
    // Files that are not images by their first bytes are found before training.
    write("cats/0.png", b"GIF89a, said the file");
    let error = open(&all, 0).unwrap_err();
    assert!(error.contains("cats/0.png: is neither a JPEG nor a PNG file, but Gif; repair or remove it"), "{error}");
    assert!(error.contains("--skip-corrupt"), "{error}");

    let skipping = open(&DataOptions { skip_corrupt: true, ..all }, 0).unwrap();
    assert_eq!((skipping.train.len(), skipping.validation.len()), (12, 12));
    // Each file counts once, although both splits have it.
    let expected = "2 files: 1 neither JPEG nor PNG by content, 1 truncated";
    assert_eq!(skipping.description["left out"], expected);
    load(skipping.train.as_ref(), None);
    let png = std::fs::read(dir.path().join("cats/1.png")).unwrap();
    write("cats/1.png", &png[..png.len() / 2]);
    let error = set.train.load(&[1], None).unwrap_err().to_string();
    assert!(error.contains("cats/1.png: cannot be decoded: "), "{error}");
    // The content decides, not the name.
    write("cats/0.png", &whole);
    let set = open(&options(&dir), 0).unwrap();
    assert!(set.train.load(&[0], None).is_ok());
}

#[test]
fn bytes_after_the_picture_change_nothing() {
    let dir = folder();
    let photo = dir.path().join("dogs/more/1.JPG");
    let whole = std::fs::read(&photo).unwrap();
    let other = std::fs::read(dir.path().join("dogs/more/2.JPG")).unwrap();
    let expected = decode(&photo).unwrap();
    for trailer in [&[0; 9][..], &[0xff, 0xda, 0, 0], &other, &other[..other.len() / 2]] {
        std::fs::write(&photo, [&whole, trailer].concat()).unwrap();
        assert_eq!(decode(&photo).unwrap(), expected);
    }
    // Data after a truncated picture does not complete it.
    std::fs::write(&photo, [&whole[..300], &[0xff, 0xd9]].concat()).unwrap();
    assert!(decode(&photo).is_err());
    let clear = dir.path().join("cats/1.png");
    let expected = decode(&clear).unwrap();
    std::fs::write(&clear, [std::fs::read(&clear).unwrap(), vec![7; 99]].concat()).unwrap();
    assert_eq!(decode(&clear).unwrap(), expected);
}

#[test]
fn left_out_files_are_counted_by_reason() {
    let dir = folder();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    write("cats/old.bmp", b"BM");
    write("dogs/empty.jpg", b"");
    write("cats/photo.png", b"RIFF\x10\0\0\0WEBPVP8 ");
    write("cats/words.jpg", b"words");
    let error = open(&options(&dir), 0).unwrap_err();
    assert!(error.contains("cats/photo.png: is neither a JPEG nor a PNG file, but WebP (2 more"), "{error}");
    let skipping = open(&DataOptions { skip_corrupt: true, ..options(&dir) }, 0).unwrap();
    let expected = "4 files: 1 not named .jpg, .jpeg or .png (1 .bmp), 1 empty, 2 neither JPEG nor PNG by content";
    assert_eq!(skipping.description["left out"], expected);
    let line = skipping.summary("12 training samples");
    assert_eq!(line, format!("images: 12 training samples; classes: 2 (cats, dogs); left out: {expected}"));
    let error = refusal(&dir.path().join("dogs/empty.jpg"));
    assert!(error.contains("empty.jpg: is empty; repair or remove it"), "{error}");
    let error = refusal(&dir.path().join("cats/photo.png"));
    assert!(error.contains("photo.png: is neither a JPEG nor a PNG file, but WebP"), "{error}");
}

#[test]
fn images_that_would_take_all_memory_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("huge.png");
    // A PNG that declares 60,000 x 60,000 pixels: the header's sizes and checksum are replaced.
    GrayImage::new(1, 1).save(&path).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let side = 60_000_u32.to_be_bytes();
    bytes[16..24].copy_from_slice(&[side, side].concat());
    let mut crc = flate2::Crc::new();
    crc.update(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    std::fs::write(&path, bytes).unwrap();
    let error = refusal(&path);
    assert!(error.contains("huge.png: cannot be decoded: ") && error.to_lowercase().contains("limit"), "{error}");
    // The same for JPEG: the sizes are 5 bytes after the frame's marker.
    let path = dir.path().join("huge.jpg");
    GrayImage::new(8, 8).save(&path).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    bytes[frame + 5..frame + 9].copy_from_slice(&[250, 0, 250, 0]);
    std::fs::write(&path, bytes).unwrap();
    let error = refusal(&path);
    assert!(error.contains("huge.jpg: cannot be decoded: ") && error.to_lowercase().contains("limit"), "{error}");
    let path = dir.path().join("narrow.png");
    GrayImage::new(1, 100).save(&path).unwrap();
    assert!(refusal(&path).contains("is 1 x 100 pixels, too narrow"));
}

#[test]
fn folders_that_do_not_fit_are_refused() {
    let dir = folder();
    let error = open(&DataOptions { input_size: None, ..options(&dir) }, 299).unwrap_err();
    assert_eq!(error, "--input-size: is 224, but the model needs at least 299");
    let error = open(&DataOptions::default(), 0).unwrap_err();
    assert!(error.starts_with("--train-dir: is needed by --dataset images"), "{error}");
    let other = tempfile::tempdir().unwrap();
    save(&other, "cows/1.png", &GrayImage::new(30, 30).into());
    let error = open(&DataOptions { validation: Some(other.path().to_owned()), ..options(&dir) }, 0).unwrap_err();
    assert!(error.starts_with("--validation-dir: ") && error.contains("class cows is not in --train-dir"), "{error}");
    let error = open(&options(&other), 0).unwrap_err();
    assert!(error.contains("holds one class (cows), but training needs two"), "{error}");
    std::fs::create_dir(other.path().join("dogs")).unwrap();
    for name in ["cows/1.png", "dogs/1.png"] {
        std::fs::write(other.path().join(name), b"no image").unwrap();
    }
    let error = open(&DataOptions { skip_corrupt: true, ..options(&other) }, 0).unwrap_err();
    assert!(error.contains("too few images (0)"), "{error}");
}

#[test]
fn the_shorter_side_is_resized() {
    let image = |columns, rows| RgbImage::new(columns, rows);
    assert_eq!(size_before_crop(&image(500, 375), 224), [256, 341]);
    assert_eq!(size_before_crop(&image(100, 300), 224), [768, 256]);
    assert_eq!(size_before_crop(&image(64, 64), 32), [37, 37]);
}

#[test]
fn real_photos_are_read() {
    let Some(path) = shared("imagenet-sample") else { return };
    let options = DataOptions { train: Some(path), skip_corrupt: true, ..DataOptions::default() };
    let set = open(&options, 224).unwrap();
    assert_eq!(set.task, Task::Images { channels: 3, size: [224, 224], classes: 100 });
    assert_eq!((set.train.len(), set.validation.len()), (90, 10));
    assert_eq!(set.description["left out"], "0 files");
    assert_eq!(set.description["classes"], "100 by the files' names (n01440764, n01530575, n01601694, ...)");
    let Batch::Images { images, .. } = set.train.load(&[0, 40, 80], None).unwrap() else { panic!("not images") };
    assert!(images.abs().max().double_value(&[]) < 2.7);
}
