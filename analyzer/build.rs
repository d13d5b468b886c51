//! Links the program at a fixed address. As one that can lie anywhere it has 2.8 MB of tables of functions whose
//! addresses are written, page by page, whenever it starts (`readelf -S`: .data.rel.ro; docs/performance.md says what
//! that takes). Its heap, stack and libraries still lie anywhere.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |what| std::env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    let linked_statically = target("FEATURE").split(',').any(|feature| feature == "crt-static");
    if target("OS") == "linux" && target("ENV") == "gnu" && !linked_statically {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
