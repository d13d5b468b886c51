//! Links the program at a fixed address, which shortens its start.
//!
//! A position-independent executable has 2.8 MB of function tables whose addresses the loader
//! writes at every start (`readelf -S`: .data.rel.ro; docs/performance.md gives the time). Heap,
//! stack and libraries still have random addresses.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |what| std::env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    let linked_statically = target("FEATURE").split(',').any(|feature| feature == "crt-static");
    if target("OS") == "linux" && target("ENV") == "gnu" && !linked_statically {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
