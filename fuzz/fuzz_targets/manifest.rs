#![no_main]

#[path = "../inputs/traces.rs"]
mod traces;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| traces::manifest(bytes));
