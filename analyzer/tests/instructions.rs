//! Results do not depend on the processor's vector instructions.

mod common;

use common::place::{Place, files};
use mercury_reuse::cpu::{Instructions, VARIABLE};
use std::process::{Command, Output};

fn run(place: &Place, instructions: &str, arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mercury-analyzer"));
    command.args(arguments.split_whitespace()).current_dir(place.path("")).env(VARIABLE, instructions);
    command.output().unwrap()
}

#[test]
fn results_are_the_same_bytes_with_all_instruction_sets() {
    let place = Place::new();
    let commands = [
        "replay trace --rpq.bits 33 --rpq.variant sign+rescale --errors all --with bounds --out out",
        "replay trace --array.dataflow ws --rpq.variant centred --mcache.entries 8 --mcache.ways 2 --with bounds --out out",
        "sweep trace --set rpq.bits=6,40 --set mcache.ways=1,4,16 --set mcache.replacement=none,lru --out out",
    ];
    for command in commands {
        let mut expected = None;
        for instructions in Instructions::present() {
            let output = run(&place, instructions.name(), command);
            assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
            let found = files(&place.path("out"));
            assert!(expected.get_or_insert_with(|| found.clone()) == &found, "{command}, {}", instructions.name());
            std::fs::remove_dir_all(place.path("out")).unwrap();
        }
    }
    let names: Vec<_> = Instructions::present().map(Instructions::name).collect();
    println!("instruction sets compared: {}", names.join(", "));
}

#[test]
fn unknown_instruction_sets_are_refused_with_a_list_of_the_present_ones() {
    let place = Place::new();
    let output = run(&place, "sse9", "replay trace --out out");
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.starts_with("error: MERCURY_INSTRUCTIONS is \"sse9\"; on this processor it may be scalar"),
        "{error}"
    );
    assert!(!place.path("out").exists());
}
