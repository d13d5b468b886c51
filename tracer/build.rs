//! Puts libtorch's folder into the binary's run path, so that the binary needs no environment
//! variables. Compiles the C++ code for which tch has no binding.

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    // torch-sys is a direct dependency only because it sets this variable.
    let lib = std::env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys says where it found libtorch");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
    // No code refers to this library, so the linker would drop it, and with it all CUDA devices.
    let cuda = Path::new(&lib).join("libtorch_cuda.so");
    if cuda.exists() {
        println!("cargo:rustc-link-arg=-Wl,--no-as-needed");
        println!("cargo:rustc-link-arg={}", cuda.display());
        println!("cargo:rustc-link-arg=-Wl,--as-needed");
    }
    compile_node(&Path::new(&lib).join("../include"));
    let version = std::fs::read_to_string(Path::new(&lib).join("../build-version"));
    println!("cargo:rustc-env=LIBTORCH_VERSION={}", version.as_deref().map_or("unknown", str::trim));
}

/// Compiles `src/reuse/node.cpp`, which derives from a class template of libtorch.
fn compile_node(include: &Path) {
    println!("cargo:rerun-if-changed=src/reuse/node.cpp");
    cc::Build::new()
        .cpp(true)
        .std("c++20")
        .include(include)
        .include(include.join("torch/csrc/api/include"))
        // The headers of libtorch have warnings.
        .warnings(false)
        .file("src/reuse/node.cpp")
        .compile("mercury_node");
}
