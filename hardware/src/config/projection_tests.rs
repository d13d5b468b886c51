//! Tests of projections from files.

use super::*;
use mercury_reuse::config::Rpq;
use mercury_trace::geometry::{Conv2d, Geometry, Linear};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

/// A folder with a file `R.safetensors` that holds these tensors.
fn write(tensors: &[(&str, Dtype, &[usize], &[f32])]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("R.safetensors");
    write_file(&path, tensors);
    (folder, path)
}

fn write_file(path: &Path, tensors: &[(&str, Dtype, &[usize], &[f32])]) {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(.., values)| values.iter().flat_map(|value| value.to_le_bytes()).collect()).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, dtype, shape, _), bytes)| {
        (*name, TensorView::new(*dtype, shape.to_vec(), bytes).expect("bytes fit the shape"))
    });
    fs::write(path, safetensors::serialize(views, &None).unwrap()).unwrap();
}

/// A good tensor for vectors of this length, with as many bits.
fn tensor<'a>(name: &'a str, shape: &'a [usize], values: &'a [f32]) -> (&'a str, Dtype, &'a [usize], &'a [f32]) {
    (name, Dtype::F32, shape, values)
}

fn resolve(text: &str, overrides: &[(&str, String)]) -> std::result::Result<Config, String> {
    Config::resolve("my.toml", text.parse().unwrap(), overrides).map_err(|error| error.to_string())
}

/// The error of a file as the only projection, without its folder.
fn refuse(tensors: &[(&str, Dtype, &[usize], &[f32])]) -> String {
    let (folder, path) = write(tensors);
    refuse_path(folder.path(), &path)
}

fn refuse_path(folder: &Path, path: &Path) -> String {
    let text = format!("[rpq]\nbits = 2\nprojection = 'file:{}'", path.display());
    resolve(&text, &[]).unwrap_err().replace(&folder.display().to_string(), "DIR")
}

#[test]
fn a_file_is_read_with_its_tensors_by_length() {
    let values: Vec<f32> = (0..12).map(|value| value as f32 - 5.5).collect();
    let (_folder, path) = write(&[tensor("a", &[4, 3], &values), tensor("z", &[2, 4], &values[..8])]);
    let config = resolve(&format!("[rpq]\nbits = 2\nprojection = 'file:{}'", path.display()), &[]).unwrap();
    let Matrix::Given(given) = &config.rpq.projection else { panic!("read") };
    assert_eq!((given.bits(), given.lengths().collect::<Vec<_>>()), (3, vec![2, 4]));
    let projection = mercury_reuse::Projection::from_rpq(&config.rpq, 4);
    // Columns of the tensor are rows of R.
    assert_eq!(projection.row(1), [-4.5, -1.5, 1.5, 4.5]);
    assert_eq!(given.origin(), format!("file:{}", path.display()));
}

#[test]
fn files_that_are_no_projection_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let refuse_bytes = |bytes: &[u8]| {
        let path = folder.path().join("R.safetensors");
        fs::write(&path, bytes).unwrap();
        refuse_path(folder.path(), &path)
    };
    let start = "configuration (my.toml): rpq.projection: DIR/R.safetensors: ";
    assert_eq!(
        refuse_path(folder.path(), &folder.path().join("R.safetensors")),
        format!("{start}No such file or directory (os error 2)")
    );
    assert_eq!(
        refuse_path(folder.path(), folder.path()),
        "configuration (my.toml): rpq.projection: DIR: is a folder, not a file; give another or copy it again"
    );
    assert_eq!(
        refuse_bytes(b"words, not tensors"),
        format!("{start}is not a readable safetensors file (HeaderTooLarge); write it by safetensors.torch.save_file")
    );
    assert!(refuse_bytes(b"").contains("is not a readable safetensors file (HeaderTooSmall)"));
    let (_other, path) = write(&[tensor("R", &[2, 2], &[1.0; 4])]);
    let whole = fs::read(path).unwrap();
    assert!(refuse_bytes(&whole[..whole.len() - 1]).contains("is not a readable safetensors file"));
    assert_eq!(
        refuse(&[("R", Dtype::I32, &[2, 2], &[1.0; 4])]),
        format!("{start}tensor \"R\" holds I32, not F32; convert it by .float()")
    );
    assert_eq!(
        refuse(&[tensor("R", &[4], &[1.0; 4])]),
        format!("{start}tensor \"R\" has the shape [4]; it must be [length, bits]")
    );
    let start = "configuration (my.toml): rpq.projection: file:DIR/R.safetensors: ";
    assert_eq!(
        refuse(&[tensor("R", &[2, 2], &[1.0, f32::NAN, 1.0, 1.0])]),
        format!("{start}the tensor [2, 2] holds NaN in row 0, column 1; a projection has finite values")
    );
    assert!(refuse(&[]).contains("holds no tensor"));
    assert!(refuse(&[tensor("a", &[2, 2], &[1.0; 4]), tensor("b", &[2, 3], &[1.0; 6])]).contains("two tensors"));
}

#[test]
fn signatures_have_at_most_as_many_bits_as_the_file_has_columns() {
    let (folder, path) = write(&[tensor("R", &[9, 12], &[0.25; 108])]);
    let text = |bits: u32| format!("[rpq]\nbits = {bits}\nprojection = 'file:{}'", path.display());
    let error = resolve(&text(13), &[]).unwrap_err().replace(&folder.path().display().to_string(), "DIR");
    assert_eq!(
        error,
        "configuration (my.toml): rpq.bits: is 13, but the tensor [9, 12] of file:DIR/R.safetensors has 12 columns, one \
         for each bit; set it to 12 at most, or give a file with more columns in rpq.projection"
    );
    // Growth ends there.
    let config = Arc::new(resolve(&text(10), &[]).unwrap());
    let bits = |grown| config.layer_configs("any", grown).pass(Pass::Forward).rpq.bits;
    assert_eq!([0, 1, 2, 3, 50].map(bits), [10, 11, 12, 12, 12]);
}

#[test]
fn paths_are_relative_to_the_file_that_names_them() {
    let (folder, path) = write(&[tensor("R", &[9, 20], &[0.25; 180])]);
    let own = folder.path().join("own.safetensors");
    write_file(&own, &[tensor("R", &[9, 20], &[-0.5; 180])]);
    let toml = folder.path().join("my.toml");
    fs::write(
        &toml,
        "[rpq]\nprojection = 'file:R.safetensors'\n[[layer]]\nname = 'a'\nrpq.projection = 'file:./own.safetensors'",
    )
    .unwrap();
    let config = Config::resolve("my.toml", Config::file(&toml).unwrap(), &[]).unwrap();
    let origin = |layer: &str| {
        let shared = Arc::new(config.clone());
        let configs = shared.layer_configs(layer, 0);
        let Matrix::Given(given) = &configs.pass(Pass::InputGrad).rpq.projection else { panic!("read") };
        given.origin().to_owned()
    };
    assert_eq!(origin("b"), format!("file:{}", path.display()));
    assert!(Path::new(&origin("a")["file:".len()..]).ends_with("own.safetensors"), "{}", origin("a"));
    // As run.json has it, the configuration is read again in any folder.
    let written = Table::try_from(&config).unwrap();
    let again = Config::resolve("run.json", written.clone(), &[]).unwrap();
    assert_eq!((&again, Table::try_from(&again).unwrap()), (&config, written));
    let error = Config::resolve("my.toml", fs::read_to_string(&toml).unwrap().parse().unwrap(), &[]).unwrap_err();
    assert!(error.to_string().contains("/R.safetensors: No such file"), "{error}");
}

#[test]
fn another_content_under_a_noted_hash_is_refused() {
    let (folder, path) = write(&[tensor("R", &[9, 20], &[0.25; 180])]);
    let flag = |text: String| resolve("", &[("rpq.projection", text)]);
    let noted = flag(format!("file:{}", path.display())).unwrap();
    let text = noted.rpq.projection.to_string();
    assert_eq!(flag(text.clone()).unwrap(), noted);
    write_file(&path, &[tensor("R", &[9, 20], &[0.5; 180])]);
    let changed = flag(format!("file:{}", path.display())).unwrap();
    assert_ne!(changed, noted);
    let hash = |config: &Config| config.rpq.projection.to_string().rsplit_once('#').unwrap().1.to_owned();
    let error = flag(text).unwrap_err().replace(&folder.path().display().to_string(), "DIR");
    assert_eq!(
        error,
        format!(
            "configuration (--rpq.projection): DIR/R.safetensors: its content has the hash {}, but {} is configured; \
             restore the file, or remove the hash from rpq.projection to use the file as it is",
            hash(&changed),
            hash(&noted)
        )
    );
    assert_eq!(split_hash("R#1"), ("R#1", None));
    assert_eq!(split_hash("a#0123456789abcdef"), ("a", Some(0x0123_4567_89ab_cdef)));
}

#[test]
fn equal_files_share_their_matrices() {
    let (_folder, path) = write(&[tensor("R", &[9, 20], &[0.25; 180])]);
    let read = || resolve(&format!("[rpq]\nprojection = 'file:{}'", path.display()), &[]).unwrap();
    let (one, other) = (read(), read());
    let (Matrix::Given(one), Matrix::Given(other)) = (&one.rpq.projection, &other.rpq.projection) else {
        panic!("read")
    };
    assert!(Arc::ptr_eq(one, other));
    // Another content of the same size.
    write_file(&path, &[tensor("R", &[9, 20], &[0.5; 180])]);
    assert_ne!(read().rpq.projection, Matrix::Given(Arc::clone(one)));
}

#[test]
fn layers_without_a_tensor_are_refused_before_any_work() {
    let conv = Geometry::Conv2d(Conv2d {
        in_channels: 3,
        out_channels: 8,
        input: [8, 8],
        kernel: [3, 3],
        stride: [2, 2],
        padding: [1, 1],
        dilation: [1; 2],
        groups: 1,
    });
    let linear = Geometry::Linear(Linear { rows: 1, in_features: 25, out_features: 10 });
    let layer = |name: &str, geometry| Layer { name: name.to_owned(), geometry, input_grad: true, weight_grad: true };
    let layers = [layer("conv", conv), layer("fc", linear)];
    let (folder, path) = write(&[tensor("a", &[9, 20], &[0.5; 180]), tensor("b", &[10, 20], &[0.25; 200])]);
    let check = |text: &str| {
        let text = format!("[rpq]\nprojection = 'file:{}'\n{text}", path.display());
        let checked = resolve(&text, &[]).unwrap().check_layers("m", &layers);
        checked.map_err(|error| error.to_string().replace(&folder.path().display().to_string(), "DIR"))
    };
    // Of the input gradient, stride 2 makes products with kernels of 1, 2 and 4 elements.
    assert_eq!(
        check("").unwrap_err(),
        "rpq.projection: file:DIR/R.safetensors has no tensor for vectors of length 1, which conv has (input-grad, \
         channel-patch); its tensors are for 9, 10; add one [1, bits], or give conv another projection or fewer \
         reuse.passes in a [[layer]] table"
    );
    let forward = "[reuse]\npasses = ['forward', 'weight-grad']\n";
    let error = check(forward).unwrap_err();
    assert!(error.contains("has no tensor for vectors of length 25, which fc has (forward, channel-patch)"), "{error}");
    check(&format!("{forward}[[layer]]\nname = 'fc'\nreuse.passes = []")).unwrap();
    check(&format!("{forward}[[layer]]\nname = 'fc'\nrpq.projection = 'gaussian'")).unwrap();
    // Sub-vectors of 9 or 10 elements leave shorter ones at the end of a row, which the same tensor serves.
    check("granularity = 'sub-vector(10)'\n[array]\ndataflow = 'ws'").unwrap();
    let error = check("granularity = 'sub-vector(8)'\n[array]\ndataflow = 'ws'").unwrap_err();
    assert!(
        error.contains("for vectors of length 8, which conv has (forward, sub-vector(8)); its tensors are"),
        "{error}"
    );
}

#[test]
fn a_drawn_projection_needs_no_file() {
    assert_eq!(read_projection(&Matrix::Sparse), Ok(Matrix::Sparse));
    assert!(Config::default().draws_projections());
    let given = Config { rpq: Rpq { projection: Matrix::File("R".to_owned()), ..Rpq::default() }, ..Config::default() };
    assert!(!given.draws_projections());
}
