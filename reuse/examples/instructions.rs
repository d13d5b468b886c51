//! Prints the vector instructions that this processor has, the fewest first; each is a value of
//! `MERCURY_INSTRUCTIONS`. `scripts/run_tests.py` tests with each.

use mercury_reuse::cpu::Instructions;

fn main() {
    let names: Vec<_> = Instructions::present().map(Instructions::name).collect();
    println!("{}", names.join(" "));
}
