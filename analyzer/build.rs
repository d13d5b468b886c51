//! Links the program at a fixed address. As an executable that can lie anywhere it has 2.8 MB of tables of functions
//! whose addresses are written when it starts (`readelf -S`: .data.rel.ro), which takes several times as long as all
//! else that a short command does.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |what| std::env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    if target("OS") == "linux" && target("ENV") == "gnu" {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
