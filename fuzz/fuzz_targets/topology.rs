#![no_main]

#[path = "../inputs/hardware.rs"]
mod hardware;
#[path = "../inputs/traces.rs"]
mod traces;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hardware::topology(bytes));
