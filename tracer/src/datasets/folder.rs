//! Lists the images of a folder by class.

use super::files::Origin;
use super::left_out::{LeftOut, LeftOutReason};
use crate::error::Result;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Maximum depth of nested folders; a deeper one is a loop of links.
const MAX_DEPTH: u32 = 16;

/// Files that operating systems put into folders of images.
const SYSTEM_FILES: [&str; 3] = [".DS_Store", "Thumbs.db", "desktop.ini"];

/// Names of folders that hold parts of a data set, not classes.
const TRAINING_NAMES: [&str; 2] = ["train", "training"];
const VALIDATION_NAMES: [&str; 5] = ["val", "valid", "validation", "test", "testing"];

/// The images of each class; classes and images are in the order of their names.
pub(super) type Classes = BTreeMap<String, Vec<PathBuf>>;

/// The content of a folder of images.
#[derive(Debug)]
pub(super) struct Listing {
    /// The images.
    pub(super) classes: Classes,
    /// Whether classes are prefixes of file names, not sub-folders.
    pub(super) flat: bool,
    /// Files whose names are not those of images.
    pub(super) left_out: LeftOut,
    /// Warnings about probable mistakes of the user.
    pub(super) warnings: Vec<String>,
}

/// Lists a folder of images.
///
/// Either each sub-folder is a class, with its images at any depth, or the images are in the folder
/// itself and the part of a name before the first `_` is the class.
pub(super) fn list(root: &Path, origin: Origin) -> Result<Listing> {
    let mut walk = FolderWalk { origin, left_out: LeftOut::default() };
    let mut classes = Classes::new();
    let mut flat = Vec::new();
    let mut warnings = Vec::new();
    for (name, path) in walk.entries(root)? {
        if path.is_dir() {
            let mut images = Vec::new();
            walk.collect(&path, MAX_DEPTH, &mut images)?;
            if images.is_empty() {
                warnings.push(format!("{}: holds no image, so it is not a class", path.display()));
            } else {
                classes.insert(name, images);
            }
        } else if walk.is_image(&path) {
            flat.push((name, path));
        }
    }
    if let (Some(class), Some((image, _))) = (classes.keys().next(), flat.first()) {
        let reason = format!(
            "holds images ({image}, ...) and sub-folders of images ({class}, ...); \
             put all images into sub-folders, one per class"
        );
        return Err(origin.bad(root, reason));
    }
    if let Some(reason) = find_parts(root, &classes) {
        return Err(origin.bad(root, reason));
    }
    let is_flat = !flat.is_empty();
    for (name, path) in flat {
        let Some((class, _)) = name.split_once('_') else {
            let reason = "its name has no `_`; name it CLASS_NAME, or sort the images into sub-folders, one per class";
            return Err(origin.bad(&path, reason));
        };
        classes.entry(class.to_owned()).or_default().push(path);
    }
    if classes.is_empty() {
        let found = if walk.left_out.is_empty() { String::new() } else { format!(" ({})", walk.left_out) };
        return Err(origin.bad(root, format!("holds no JPEG or PNG files{found}; put images there, or convert them")));
    }
    Ok(Listing { classes, flat: is_flat, left_out: walk.left_out, warnings })
}

/// Finds sub-folders such as `train` and `val`, which are hardly classes; returns the error's
/// reason.
fn find_parts(root: &Path, classes: &Classes) -> Option<String> {
    let named = |names: &[&str]| classes.keys().find(|class| names.contains(&class.to_lowercase().as_str()));
    let (train, validation) = (named(&TRAINING_NAMES)?, named(&VALIDATION_NAMES)?);
    let [train_dir, validation_dir] = [train, validation].map(|name| root.join(name).display().to_string());
    Some(format!(
        "holds {train} and {validation}, which would become classes; did you mean \
         --train-dir {train_dir} --validation-dir {validation_dir}? If they are classes, rename the folders"
    ))
}

struct FolderWalk {
    origin: Origin,
    left_out: LeftOut,
}

impl FolderWalk {
    /// Lists names and paths in a folder, in the order of names; notes hidden files as left out.
    fn entries(&mut self, folder: &Path) -> Result<Vec<(String, PathBuf)>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(|error| self.origin.unreadable(folder, error))? {
            let entry = entry.map_err(|error| self.origin.unreadable(folder, error))?;
            let path = entry.path();
            let Ok(name) = entry.file_name().into_string() else {
                return Err(self.origin.bad(&path, "its name is not UTF-8; rename it"));
            };
            if SYSTEM_FILES.contains(&name.as_str()) {
                continue;
            }
            if name.starts_with('.') {
                self.left_out.add(path, LeftOutReason::Hidden);
            } else {
                entries.push((name, path));
            }
        }
        entries.sort();
        Ok(entries)
    }

    /// Appends the images of a folder and its sub-folders.
    fn collect(&mut self, folder: &Path, depth: u32, images: &mut Vec<PathBuf>) -> Result<()> {
        if depth == 0 {
            return Err(self.origin.bad(folder, format!("is {MAX_DEPTH} folders deep; is there a loop of links?")));
        }
        for (_, path) in self.entries(folder)? {
            if path.is_dir() {
                self.collect(&path, depth - 1, images)?;
            } else if self.is_image(&path) {
                images.push(path);
            }
        }
        Ok(())
    }

    /// Whether a file's suffix is that of an image; notes other files as left out.
    fn is_image(&mut self, path: &Path) -> bool {
        let suffix = path.extension().map(|suffix| suffix.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let image = matches!(suffix.as_str(), "jpg" | "jpeg" | "png");
        if !image {
            self.left_out.add(path.to_owned(), LeftOutReason::Name(suffix));
        }
        image
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
        dir
    }

    /// Lists the images as lines `class: path`.
    fn names(dir: &tempfile::TempDir) -> std::result::Result<Vec<String>, String> {
        let classes = list(dir.path(), Origin::Flag("--train-dir")).map_err(|error| error.to_string())?.classes;
        let line = |class: &str, path: &PathBuf| format!("{class}: {}", path.strip_prefix(dir).unwrap().display());
        Ok(classes.iter().flat_map(|(class, paths)| paths.iter().map(move |path| line(class, path))).collect())
    }

    #[test]
    fn a_class_is_a_sub_folder() {
        let files = ["b/2.PNG", "b/1.jpg", "b/notes.txt", "a/deep/er/x.Jpeg", "a/.y.jpg", ".z/z.jpg", "c/z.gif", "r"];
        assert_eq!(names(&folder(&files)).unwrap(), ["a: a/deep/er/x.Jpeg", "b: b/1.jpg", "b: b/2.PNG"]);
    }

    #[test]
    fn a_class_is_the_prefix_of_a_name() {
        let dir = folder(&["n02_white_wolf.jpg", "n01_tench.jpg", "n02_wolf.png", "README.md"]);
        assert_eq!(names(&dir).unwrap(), ["n01: n01_tench.jpg", "n02: n02_white_wolf.jpg", "n02: n02_wolf.png"]);
    }

    #[test]
    fn files_without_an_image_s_name_are_counted() {
        let files = ["a/1.jpg", "a/x.webp", "b/1.png", "b/deep/y.WEBP", "b/z.gif", "b/notes", "LICENSE.txt"];
        let others = ["a/.DS_Store", "Thumbs.db", "b/desktop.ini", "a/._1.jpg", ".cache/2.jpg"];
        let dir = folder(&[&files[..], &others].concat());
        let listing = list(dir.path(), Origin::Flag("--train-dir")).unwrap();
        assert_eq!(
            listing.left_out.to_string(),
            "7 files: 5 not named .jpg, .jpeg or .png (1 without suffix, 1 .gif, 1 .txt, 2 .webp), 2 hidden"
        );
        assert!(!listing.flat);
        assert!(list(folder(&["a_1.jpg"]).path(), Origin::Flag("--train-dir")).unwrap().flat);
    }

    #[test]
    fn parts_of_a_data_set_are_not_classes() {
        for (train, validation) in [("train", "val"), ("Training", "Test"), ("train", "validation")] {
            let dir = folder(&[&format!("{train}/cat/1.jpg"), &format!("{validation}/cat/1.jpg"), "more/1.jpg"]);
            let error = names(&dir).unwrap_err();
            assert!(error.contains(&format!("holds {train} and {validation}, which would become classes")), "{error}");
            let root = dir.path().display();
            let flags = format!("--train-dir {root}/{train} --validation-dir {root}/{validation}?");
            assert!(error.contains(&flags), "{error}");
        }
        // `train` alone may be a class of vehicles.
        assert_eq!(names(&folder(&["bus/1.jpg", "train/1.jpg"])).unwrap().len(), 2);
    }

    #[test]
    fn folders_without_classes_are_refused() {
        let error = names(&folder(&["a/1.jpg", "b_2.jpg"])).unwrap_err();
        assert!(error.contains("b_2.jpg, ...) and sub-folders of images (a, ...)"), "{error}");
        assert!(names(&folder(&["plain.jpg"])).unwrap_err().contains("plain.jpg: its name has no `_`"));
        let error = names(&folder(&["a/x.txt", "y.gif"])).unwrap_err();
        assert!(error.contains("holds no JPEG or PNG files (2 files not named"), "{error}");
        let absent = list(Path::new("/absent/folder"), Origin::Flag("--train-dir")).unwrap_err().to_string();
        assert!(absent.starts_with("--train-dir: /absent/folder: No such file"), "{absent}");
        let looping = folder(&["a/1.jpg"]);
        std::os::unix::fs::symlink(looping.path(), looping.path().join("a/again")).unwrap();
        assert!(names(&looping).unwrap_err().contains("a loop of links"));
    }
}
