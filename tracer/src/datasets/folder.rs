//! Which images a folder holds, and of which class.

use super::files::Origin;
use crate::error::Result;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Folders in folders beyond this are a loop of links.
const DEPTH: u32 = 16;

/// The images of each class, both in order of their names.
pub(super) type Classes = BTreeMap<String, Vec<PathBuf>>;

/// Lists a folder of images.
///
/// Either each sub-folder is a class, its images in it or below; or the images lie in the folder
/// itself, and a class is what stands before the first `_` of a name. Hidden files and folders are
/// passed over.
pub(super) fn list(root: &Path, origin: Origin) -> Result<Classes> {
    let mut walk = Walk { origin, ignored: 0 };
    let (mut classes, mut flat) = (Classes::new(), Vec::new());
    for (name, path) in walk.entries(root)? {
        if path.is_dir() {
            let mut images = Vec::new();
            walk.collect(&path, DEPTH, &mut images)?;
            if images.is_empty() {
                tracing::warn!(folder = %path.display(), "holds no image, so it is no class");
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
             put all images into sub-folders, one a class"
        );
        return Err(origin.bad(root, reason));
    }
    for (name, path) in flat {
        let Some((class, _)) = name.split_once('_') else {
            let reason = "its name has no `_`; name it CLASS_NAME, or sort the images into sub-folders, one a class";
            return Err(origin.bad(&path, reason));
        };
        classes.entry(class.to_owned()).or_default().push(path);
    }
    if classes.is_empty() {
        return Err(origin.bad(root, "holds no JPEG or PNG files"));
    }
    if walk.ignored > 0 {
        tracing::info!(folder = %root.display(), files = walk.ignored, "ignored what is neither .jpg, .jpeg nor .png");
    }
    Ok(classes)
}

struct Walk {
    origin: Origin,
    ignored: usize,
}

impl Walk {
    /// Names and paths in a folder, in order of their names.
    fn entries(&self, folder: &Path) -> Result<Vec<(String, PathBuf)>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(|error| self.origin.unreadable(folder, error))? {
            let entry = entry.map_err(|error| self.origin.unreadable(folder, error))?;
            let path = entry.path();
            let Ok(name) = entry.file_name().into_string() else {
                return Err(self.origin.bad(&path, "its name is not UTF-8; rename it"));
            };
            if !name.starts_with('.') {
                entries.push((name, path));
            }
        }
        entries.sort();
        Ok(entries)
    }

    /// Appends the images of a folder and those below.
    fn collect(&mut self, folder: &Path, depth: u32, images: &mut Vec<PathBuf>) -> Result<()> {
        if depth == 0 {
            return Err(self.origin.bad(folder, format!("is {DEPTH} folders deep; is there a loop of links?")));
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

    /// By the suffix; what the file holds is seen when it is decoded.
    fn is_image(&mut self, path: &Path) -> bool {
        let suffix = path.extension().and_then(|suffix| suffix.to_str()).map(str::to_ascii_lowercase);
        let image = matches!(suffix.as_deref(), Some("jpg" | "jpeg" | "png"));
        self.ignored += usize::from(!image);
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

    /// Lines `class: path`.
    fn names(dir: &tempfile::TempDir) -> std::result::Result<Vec<String>, String> {
        let classes = list(dir.path(), Origin::Flag("--train-dir")).map_err(|error| error.to_string())?;
        let line = |class: &str, path: &PathBuf| format!("{class}: {}", path.strip_prefix(dir).unwrap().display());
        Ok(classes.iter().flat_map(|(class, paths)| paths.iter().map(move |path| line(class, path))).collect())
    }

    #[test]
    fn a_class_is_a_sub_folder() {
        let files = ["b/2.PNG", "b/1.jpg", "b/notes.txt", "a/deep/er/x.Jpeg", "a/.y.jpg", ".z/z.jpg", "c/z.gif", "r"];
        assert_eq!(names(&folder(&files)).unwrap(), ["a: a/deep/er/x.Jpeg", "b: b/1.jpg", "b: b/2.PNG"]);
    }

    #[test]
    fn a_class_is_the_beginning_of_a_name() {
        let dir = folder(&["n02_white_wolf.jpg", "n01_tench.jpg", "n02_wolf.png", "README.md"]);
        assert_eq!(names(&dir).unwrap(), ["n01: n01_tench.jpg", "n02: n02_white_wolf.jpg", "n02: n02_wolf.png"]);
    }

    #[test]
    fn folders_that_say_no_class_are_refused() {
        let error = names(&folder(&["a/1.jpg", "b_2.jpg"])).unwrap_err();
        assert!(error.contains("b_2.jpg, ...) and sub-folders of images (a, ...)"), "{error}");
        assert!(names(&folder(&["plain.jpg"])).unwrap_err().contains("plain.jpg: its name has no `_`"));
        assert!(names(&folder(&["a/x.txt", "y.gif"])).unwrap_err().contains("holds no JPEG or PNG"));
        let absent = list(Path::new("/absent/folder"), Origin::Flag("--train-dir")).unwrap_err().to_string();
        assert!(absent.starts_with("--train-dir: /absent/folder: No such file"), "{absent}");
        let looping = folder(&["a/1.jpg"]);
        std::os::unix::fs::symlink(looping.path(), looping.path().join("a/again")).unwrap();
        assert!(names(&looping).unwrap_err().contains("a loop of links"));
    }
}
