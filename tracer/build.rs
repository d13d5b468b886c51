//! Puts libtorch's folder into the binary's run path, so that it runs without environment variables, and
//! compiles the one piece of C++ that tch has no binding for.

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    // Set by torch-sys, which is a direct dependency for just this.
    let lib = std::env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys says where it found libtorch");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
    // Nothing calls it by name, so the linker would drop it, and with it every CUDA device.
    let cuda = Path::new(&lib).join("libtorch_cuda.so");
    if cuda.exists() {
        println!("cargo:rustc-link-arg=-Wl,--no-as-needed");
        println!("cargo:rustc-link-arg={}", cuda.display());
        println!("cargo:rustc-link-arg=-Wl,--as-needed");
    }
    node(&Path::new(&lib).join("../include"));
    let version = std::fs::read_to_string(Path::new(&lib).join("../build-version"));
    println!("cargo:rustc-env=LIBTORCH_VERSION={}", version.as_deref().map_or("unknown", str::trim));
}

/// `src/reuse/node.cpp`, which derives from a class template of libtorch's.
fn node(include: &Path) {
    println!("cargo:rerun-if-changed=src/reuse/node.cpp");
    cc::Build::new()
        .cpp(true)
        .std("c++20")
        .include(include)
        .include(include.join("torch/csrc/api/include"))
        // Of libtorch's headers.
        .warnings(false)
        .file("src/reuse/node.cpp")
        .compile("mercury_node");
}
