//! Prints the vector instructions of this CPU, the least advanced first. Each is a value of
//! `MERCURY_INSTRUCTIONS`; `scripts/run_tests.py` runs the tests with each.

use mercury_reuse::cpu::Instructions;

fn main() {
    let names: Vec<_> = Instructions::present().map(Instructions::name).collect();
    println!("{}", names.join(" "));
}
