//! Tests with files that PyTorch wrote (`tests/weights/make.py`) and other files.

use super::*;
use crate::checkpoint::save_weights;
use std::path::PathBuf;
use tch::{Device, Kind};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/weights").join(name)
}

/// Creates parameters with these names and sizes, all filled with 7.
fn model<'a>(names: impl IntoIterator<Item = (&'a str, &'a [i64])>) -> Weights {
    let weights = Weights::new(Device::Cpu);
    for (name, size) in names {
        let _ = weights.root().parameter(name, size, || Tensor::full(size, 7.0, (Kind::Float, Device::Cpu)));
    }
    weights
}

/// The names and sizes of the model of `make.py`, in its order.
const SMALL: [(&str, &[i64]); 6] = [
    ("fc.weight", &[2, 3]),
    ("fc.bias", &[2]),
    ("bn.weight", &[2]),
    ("bn.bias", &[2]),
    ("bn.running_mean", &[2]),
    ("bn.running_var", &[2]),
];

fn small() -> Weights {
    let weights = model(SMALL);
    let _ = weights.root().at("bn").counter("num_batches_tracked");
    weights
}

/// Returns the values of the parameter at this place in `make.py`.
fn expected(place: usize) -> Tensor {
    let size = SMALL[place].1;
    let count: i64 = size.iter().product();
    let values: Vec<f32> = (0..count).map(|i| i as f32 / 4.0 - place as f32).collect();
    Tensor::from_slice(&values).reshape(size)
}

fn none() -> NamePatterns {
    NamePatterns::default()
}

fn fresh(patterns: &[&str]) -> NamePatterns {
    NamePatterns::new("--fresh", patterns.iter().copied()).unwrap()
}

/// Returns the error of a file with this name and content.
fn refusal(name: &str, content: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    load(&small(), &path, &none()).unwrap_err().to_string()
}

#[test]
fn state_dictionaries_are_read() {
    let files = [
        ("plain.pth", "PyTorch"),
        ("half.pth", "PyTorch"),
        ("bfloat16.pth", "PyTorch"),
        ("strided.pth", "PyTorch"),
        ("legacy.pth", "PyTorch"),
        ("protocol4.pth", "PyTorch, its model"),
        ("checkpoint.pth", "PyTorch, its state_dict; prefix \"module._orig_mod.\" removed from names"),
    ];
    for (name, said) in files {
        let weights = small();
        let line = load(&weights, &file(name), &none()).unwrap();
        assert!(line.starts_with("weights: ") && line.ends_with(&format!("{name}: 7 tensors, {said}")), "{line}");
        for (place, entry) in weights.entries().iter().take(SMALL.len()).enumerate() {
            assert_eq!(entry.tensor, expected(place), "{name}: {}", entry.name);
            assert_eq!(entry.tensor.kind(), Kind::Float);
        }
    }
}

#[test]
fn half_precision_safetensors_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("half.safetensors");
    for kind in [Kind::Half, Kind::BFloat16, Kind::Double] {
        let tensors: Vec<_> =
            SMALL.iter().enumerate().map(|(i, (name, _))| (*name, expected(i).to_kind(kind))).collect();
        Tensor::write_safetensors(&tensors, &path).unwrap();
        let weights = small();
        load(&weights, &path, &none()).unwrap();
        assert_eq!(weights.entries()[0].tensor, expected(0));
    }
}

#[test]
fn copies_of_one_list_do_not_exhaust_memory() {
    let pickle = |pairs: usize, calls: usize| {
        let parts: [&[u8]; 6] = [
            b"\x80\x02ccollections\nOrderedDict\nq\x000",
            // A pair, and a list that has it many times.
            b"K\x01K\x01\x86q\x010](",
            &b"h\x01".repeat(pairs),
            b"eq\x020",
            &b"h\x00h\x02\x85R0".repeat(calls),
            b"}.",
        ];
        pickled(&parts.concat())
    };
    let error = refusal("w.pth", &pickle(100_000, 100_000));
    assert!(error.contains("is damaged: data.pkl its objects hold more values than its bytes can (byte "), "{error}");
    let error = refusal("w.pth", &pickle(100_000, 1));
    assert!(error.contains("holds no named tensors (an empty dictionary)"), "{error}");
}

#[test]
fn integers_are_not_weights() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("quantised.safetensors");
    let save = |first: Kind, others: Kind| {
        let kind = |place: usize| if place == 0 { first } else { others };
        let tensors: Vec<_> =
            SMALL.iter().enumerate().map(|(i, (name, _))| (*name, expected(i).to_kind(kind(i)))).collect();
        Tensor::write_safetensors(&tensors, &path).unwrap();
        load(&small(), &path, &none()).map_err(|error| error.to_string())
    };
    let ending = "which are not floating-point weights; dequantise to float32 and save again";
    for (kind, name) in [(Kind::Int8, "int8"), (Kind::Uint8, "uint8"), (Kind::Int64, "int64"), (Kind::Bool, "bool")] {
        let error = save(kind, Kind::Half).unwrap_err();
        assert!(error.ends_with(&format!("quantised.safetensors: fc.weight holds {name}, {ending}")), "{error}");
    }
    let error = save(Kind::Int8, Kind::Int8).unwrap_err();
    assert!(error.contains("fc.weight, fc.bias, bn.weight, bn.bias, bn.running_mean, bn.running_var hold int8, "));
    // One kind is named, with the names that hold it.
    let error = save(Kind::Float, Kind::Int).unwrap_err();
    assert!(error.contains("safetensors: fc.bias, bn.weight") && error.contains(" hold int32, "), "{error}");
    assert!(save(Kind::Float, Kind::Half).is_ok());
}

#[test]
fn other_content_is_named() {
    let error = |name: &str| load(&small(), &file(name), &none()).unwrap_err().to_string();
    let module = error("module.pth");
    assert!(module.contains("module.pth: holds a whole Python object (__main__.Small)"), "{module}");
    let lines = module.lines().skip(1).collect::<Vec<_>>();
    assert_eq!(lines[0], "  import torch, safetensors.torch");
    let end = "/module.pth\", weights_only=False).state_dict(), ";
    assert!(lines[1].starts_with("  safetensors.torch.save_file(torch.load(\"/") && lines[1].contains(end), "{module}");
    let scripted = archive(&[("data.pkl", b"\x80\x02}."), ("constants.pkl", b"\x80\x02).")]);
    let scripted = refusal("w.pt", &scripted);
    assert!(scripted.contains("is a TorchScript archive") && scripted.contains("torch.jit.load(\""), "{scripted}");

    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    assert!(refusal("w.safetensors", pointer).contains("w.safetensors: is a Git LFS pointer"));
    for page in ["<!DOCTYPE html><html>", "\n<html lang=en>", "<?xml version=\"1.0\"?><Error>", "\u{feff}<html>"] {
        assert!(refusal("w.pth", page.as_bytes()).contains("w.pth: is a web page (HTML)"));
    }
    assert!(refusal("w.pth", b"").contains("w.pth: is empty"));
    assert!(refusal("w.h5", b"\x89HDF\r\n\x1a\n").contains("is an HDF5 file"));
    assert!(refusal("w.json", b"{\"weight_map\": {}}").contains("is JSON text"));
    let pickle = refusal("w.pkl", b"\x80\x04}.");
    assert!(pickle.contains("is a Python pickle, but not of torch.save"), "{pickle}");
    assert!(pickle.contains("/w.pkl\", \"rb\"))\n  state = {name: torch.as_tensor(value)"), "{pickle}");
    assert!(refusal("w.npy", b"\x93NUMPY\x01\0").contains("is a single NumPy array (.npy)"));
    assert!(refusal("w.safetensors", b"words").contains("is text, not weights: \"words\"; give a safetensors file"));
    let long = "ä".repeat(300);
    let shown = format!("is text, not weights: \"{}…\";", "ä".repeat(40));
    assert!(refusal("w.safetensors", format!("a{long}").as_bytes()).contains("is text, not weights: \"aä"));
    assert!(refusal("w.safetensors", long.as_bytes()).contains(&shown));
    assert!(refusal("w.safetensors", &[0xff; 20]).contains("not a readable safetensors file"));
    assert!(refusal("w.pth", b"PK\x03\x04words").contains("is a damaged zip archive"));
    let absent = load(&small(), Path::new("/absent.pth"), &none()).unwrap_err().to_string();
    assert!(absent.contains("absent.pth: No such file"), "{absent}");
}

/// Builds a zip archive of these files, as `torch.save` does.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::FileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, content) in files {
        writer.start_file(format!("archive/{name}"), options).unwrap();
        std::io::Write::write_all(&mut writer, content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// Builds an archive of this pickle only.
fn pickled(pickle: &[u8]) -> Vec<u8> {
    archive(&[("data.pkl", pickle)])
}

#[test]
fn archives_without_tensors_say_what_they_hold() {
    let error = refusal("w.pth", &pickled(b"\x80\x02}q\0."));
    assert!(error.contains("holds no named tensors (an empty dictionary)"), "{error}");
    let error = refusal("w.pth", &pickled(b"\x80\x02}(X\x03\0\0\0oneK\x01X\x03\0\0\0twoNu."));
    assert!(error.contains("holds no named tensors (one, two)"), "{error}");
    let error = refusal("w.pth", &pickled(b"\x80\x02K\x01."));
    assert!(error.contains("holds no state dictionary"), "{error}");
    // A call that would run a command in Python.
    let error = refusal("w.pth", &pickled(b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R."));
    assert!(error.contains("holds a whole Python object (os.system)"), "{error}");
}

/// The pickle of `{"a": tensor}`, of float32, with this offset, size and stride.
fn tensor_pickle(offset: u8, size: u8, stride: u8) -> Vec<u8> {
    let storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQ";
    let parts: [&[u8]; 5] = [
        b"\x80\x02}X\x01\0\0\0actorch._utils\n_rebuild_tensor\n(",
        storage,
        &[b'K', offset, b'K', size, 0x85, b'K', stride, 0x85],
        b"tR",
        b"s.",
    ];
    parts.concat()
}

#[test]
fn tensors_lie_within_what_is_stored() {
    let stored: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.pth");
    let load_part = |[offset, size, stride]: [u8; 3], stored: &[u8]| {
        std::fs::write(&path, archive(&[("data.pkl", &tensor_pickle(offset, size, stride)), ("data/0", stored)]))
            .unwrap();
        let size = [i64::from(size)];
        let weights = model([("a", size.as_slice())]);
        let loaded = load(&weights, &path, &none()).map_err(|error| error.to_string());
        loaded.map(|_| Vec::<f32>::try_from(&weights.entries()[0].tensor).unwrap())
    };
    assert_eq!(load_part([1, 2, 2], &stored).unwrap(), [2.0, 4.0]);
    assert_eq!(load_part([3, 3, 0], &stored).unwrap(), [4.0; 3]);
    for part in [[1, 4, 1], [0, 3, 2], [4, 1, 1]] {
        let error = load_part(part, &stored).unwrap_err();
        assert!(error.contains("is damaged: tensor a: it is larger than its storage"), "{error}");
    }
    // The pickle says four elements.
    assert!(load_part([1, 2, 2], &stored[..12]).unwrap_err().contains("it is larger than its storage"));
}

#[test]
fn damaged_files_are_refused_or_read() {
    let path = Path::new("damaged.pth");
    let zip = |bytes: &[u8]| pytorch::read_zip(path, std::io::Cursor::new(bytes));
    let legacy = |bytes: &[u8]| pytorch::read_legacy(path, bytes);
    for name in ["checkpoint.pth", "legacy.pth"] {
        let read = |bytes: &[u8]| if name == "legacy.pth" { legacy(bytes) } else { zip(bytes) };
        let whole = std::fs::read(file(name)).unwrap();
        assert_eq!(read(&whole).unwrap().tensors.len(), 7);
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{name}: {length} bytes");
        }
        for position in 0..whole.len() {
            for mask in [0x01, 0x55, 0xff] {
                let mut damaged = whole.clone();
                damaged[position] ^= mask;
                // Any result is fine, but reading must end.
                let _ = read(&damaged);
            }
        }
    }
}

#[test]
fn another_byte_order_is_refused() {
    let file = archive(&[("data.pkl", &tensor_pickle(0, 1, 1)), ("data/0", &[0; 4]), ("byteorder", b"big")]);
    assert!(refusal("w.pth", &file).contains("was saved on a big-endian machine"));
}

#[test]
fn deep_nesting_ends() {
    let deep = [&b"\x80\x02)"[..], &vec![0x85; 1_000_000], b"."].concat();
    assert!(refusal("w.pth", &pickled(&deep)).contains("holds no state dictionary"));
}

#[test]
fn prefixes_of_wrappers_are_taken_off() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.safetensors");
    let save = |names: &[&str]| save_weights(&model(names.iter().map(|name| (*name, &[1i64][..]))), &path).unwrap();
    let sizes = |names: [&'static str; 2]| model(names.map(|name| (name, &[1i64][..])));
    let ours = || sizes(["a", "b.c"]);
    let try_names = |names: &[&str], weights: &Weights| {
        save(names);
        load(weights, &path, &none()).map_err(|error| error.to_string())
    };
    for prefix in ["module.", "_orig_mod.", "model.", "model.module.", "module._orig_mod.", "model._orig_mod.module."] {
        let line = try_names(&[&format!("{prefix}a"), &format!("{prefix}b.c")], &ours()).unwrap();
        assert!(line.ends_with(&format!("; prefix {prefix:?} removed from names")), "{line}");
    }
    assert!(!try_names(&["a", "b.c"], &ours()).unwrap().contains("removed"));
    // A model whose own names have the prefix.
    assert!(!try_names(&["model.a", "model.b"], &sizes(["model.a", "model.b"])).unwrap().contains("removed"));
    // Only some names have the prefix, as when a script saves more than the model.
    try_names(&["model.a", "b.c"], &ours()).unwrap();
    let error = try_names(&["model.a", "model.b.c", "loss.d"], &ours()).unwrap_err();
    assert!(error.contains("even without the prefix \"model.\": not in the model: loss.d"), "{error}");
    let error = try_names(&["module.a"], &ours()).unwrap_err();
    assert!(error.contains("even without the prefix \"module.\": missing: b.c"), "{error}");
    assert!(try_names(&["a", "module.a"], &ours()).unwrap_err().contains("not in the model: module.a"));
    let error = try_names(&["x", "y"], &ours()).unwrap_err();
    assert!(error.contains("does not fit the model: missing: a, b.c; not in the model: x, y"), "{error}");
    // --fresh matches the model's names.
    save(&["module.a", "module.other"]);
    let line = load(&ours(), &path, &fresh(&["b.*", "other"])).unwrap();
    assert!(line.contains("w.safetensors: 1 tensors, safetensors; prefix \"module.\" removed"), "{line}");
    // An unknown prefix is named.
    let error = try_names(&["backbone.a", "backbone.b.c"], &ours()).unwrap_err();
    assert!(error.contains("w.safetensors: all its names have the prefix \"backbone.\", which the model's"), "{error}");
    assert!(!error.contains("--fresh"), "{error}");
    assert!(try_names(&["net.core.b.c"], &ours()).unwrap_err().contains("all its names have the prefix \"net.core.\""));
    let error = try_names(&["backbone.x", "backbone.b.c"], &ours()).unwrap_err();
    assert!(!error.contains("all its names") && error.ends_with("; is it for another model?"), "{error}");
}

#[test]
fn counters_never_refuse_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.safetensors");
    save_weights(&small(), &path).unwrap();
    load(&model(SMALL), &path, &none()).unwrap();
    save_weights(&model(SMALL), &path).unwrap();
    load(&small(), &path, &none()).unwrap();
    // Old files have counters of another shape.
    save_weights(&model(SMALL.into_iter().chain([("bn.num_batches_tracked", &[1i64][..])])), &path).unwrap();
    load(&small(), &path, &none()).unwrap();
}

#[test]
fn values_that_are_not_finite_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.safetensors");
    let values = [("a", vec![1.0, f32::NAN, f32::NAN]), ("b", vec![f32::INFINITY]), ("c", vec![0.0])];
    let tensors: Vec<_> = values.iter().map(|(name, values)| (*name, Tensor::from_slice(values))).collect();
    Tensor::write_safetensors(&tensors, &path).unwrap();
    let weights = model([("a", &[3i64][..]), ("b", &[1]), ("c", &[1])]);
    let error = load(&weights, &path, &none()).unwrap_err().to_string();
    assert!(error.contains("w.safetensors: has values that are not finite: a (2 NaN), b (1 infinite);"), "{error}");
    assert_eq!(weights.entries()[2].tensor.int64_value(&[0]), 7, "nothing was copied");
    load(&weights, &path, &fresh(&["[ab]"])).unwrap();
}

#[test]
fn weights_of_another_model_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weights.safetensors");
    let many: Vec<String> = (0..12).map(|i| format!("extra{i:02}")).collect();
    let extra = many.iter().map(|name| (name.as_str(), &[1i64][..]));
    save_weights(&model(extra.chain([("a", &[3i64][..])])), &path).unwrap();
    let ours = || model([("a", &[4i64][..]), ("b", &[2])]);
    let error = load(&ours(), &path, &none()).unwrap_err().to_string();
    assert!(error.contains("missing: b;") && error.contains("extra09 and 2 more"), "{error}");
    assert!(error.contains("of another shape: a ([3], the model has [4])"), "{error}");
    assert!(error.ends_with("name the parameters that differ with --fresh"), "{error}");
    let line = load(&ours(), &path, &fresh(&["[ab]", "extra*"])).unwrap();
    assert!(line.ends_with("weights.safetensors: 0 tensors, safetensors"), "{line}");
}

#[test]
fn patterns_that_match_nothing_are_refused() {
    let error = |patterns: &[&str]| load(&small(), &file("plain.pth"), &fresh(patterns)).unwrap_err().to_string();
    let message = error(&["fc.*", "bn.wieght"]);
    let near = "bn.weight, bn.bias, bn.running_mean, bn.running_var, bn.num_batches_tracked";
    assert_eq!(message, "--fresh: \"bn.wieght\" matches no parameter of the model, which has bn.weight");
    assert!(error(&["bn.x*"]).ends_with(near));
    assert!(error(&["head.*"]).contains("which has bn.num_batches_tracked, bn.running_var"));
    let line = load(&small(), &file("plain.pth"), &fresh(&["fc.*"])).unwrap();
    assert!(line.ends_with("plain.pth: 5 tensors, PyTorch"), "{line}");
}
