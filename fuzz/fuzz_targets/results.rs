#![no_main]

#[path = "../inputs/analyzer.rs"]
mod analyzer;
#[path = "../inputs/traces.rs"]
mod traces;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| analyzer::results(bytes));
