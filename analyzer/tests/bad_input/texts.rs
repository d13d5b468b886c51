//! Malformed topologies and configurations.

use super::{Case, assert_report, link, pipe, report};
use crate::common::place::Place;
use std::fs;

fn empty() -> Place {
    Place::new()
}

fn write_topology(place: &Place, text: impl AsRef<[u8]>) {
    fs::write(place.path("t.csv"), text).unwrap();
}

fn write_config(place: &Place, text: impl AsRef<[u8]>) {
    fs::write(place.path("c.toml"), text).unwrap();
}

const CYCLES: &str = "cycles --topology t.csv";
const REPLAY: &str = "replay trace --out out --config c.toml";

const TOPOLOGIES: [Case; 20] = [
    ("empty", |place| write_topology(place, ""), CYCLES),
    ("a header alone", |place| write_topology(place, "name,m,n,k\n"), CYCLES),
    ("no header, and a number of columns that says nothing", |place| write_topology(place, "a,1,2,3,4\n"), CYCLES),
    ("a title", |place| write_topology(place, "name,m,n,k\nTinyNet,\na,1,2,3\n"), CYCLES),
    ("tabs", |place| write_topology(place, "name\tm\tn\tk\na\t1\t2\t3\n"), CYCLES),
    ("semicolons", |place| write_topology(place, "name;m;n;k\na;1;2;3\n"), CYCLES),
    ("a column that may change the work", |place| write_topology(place, "name,m,n,k,heads\na,1,2,3,8\n"), CYCLES),
    ("not text", |place| write_topology(place, b"name,m,n,k\n\xff\xfe,1,2,3\n"), CYCLES),
    ("bytes of zero", |place| write_topology(place, [0; 4096]), CYCLES),
    ("too few numbers", |place| write_topology(place, "name,m,n,k\na,1,2\n"), CYCLES),
    ("too many numbers", |place| write_topology(place, "name,m,n,k\na,1,2,3,4\n"), CYCLES),
    ("zero", |place| write_topology(place, "name,m,n,k\na,1,0,3\n"), CYCLES),
    ("negative", |place| write_topology(place, "name,m,n,k\na,1,-2,3\n"), CYCLES),
    ("not a number", |place| write_topology(place, "name,m,n,k\na,nan,2,3\n"), CYCLES),
    ("beyond 64 bits", |place| write_topology(place, "name,m,n,k\na,99999999999999999999,2,3\n"), CYCLES),
    ("a product that overflows", |place| write_topology(place, "name,m,n,k\na,16777216,16777216,16777216\n"), CYCLES),
    (
        "cycles that overflow",
        |place| write_topology(place, "name,m,n,k\na,1,4611686018427387904,1\n"),
        "cycles --topology t.csv --dataflow os --array 65536x1",
    ),
    ("a filter larger than its input", |place| write_topology(place, "a,2,2,3,3,1,1,1\n"), CYCLES),
    (
        "a device",
        |place| {
            write_topology(place, "");
            link(&place.path("t.csv"), "/dev/zero");
        },
        CYCLES,
    ),
    (
        "a pipe",
        |place| {
            write_topology(place, "");
            pipe(&place.path("t.csv"));
        },
        CYCLES,
    ),
];

#[test]
fn topologies() {
    assert_report("bad_topologies", &report(&TOPOLOGIES, empty));
}

const CONFIGURATIONS: [Case; 14] = [
    ("not TOML", |place| write_config(place, "[rpq"), REPLAY),
    ("not text", |place| write_config(place, b"[rpq]\nbits = \"\xff\"\n"), REPLAY),
    ("an unknown section", |place| write_config(place, "[rqp]\nbits = 20\n"), REPLAY),
    ("a value of another type", |place| write_config(place, "[rpq]\nbits = \"20\"\n"), REPLAY),
    ("a section that is a value", |place| write_config(place, "rpq = 20\n"), REPLAY),
    ("beyond 64 bits", |place| write_config(place, "[rpq]\nbits = 99999999999999999999\n"), REPLAY),
    ("negative", |place| write_config(place, "[mcache]\nentries = -1\n"), REPLAY),
    ("not a number", |place| write_config(place, "[array]\nclock_mhz = nan\n"), REPLAY),
    ("infinite", |place| write_config(place, "[energy]\ndram = inf\n"), REPLAY),
    ("a key twice", |place| write_config(place, "[rpq]\nbits = 20\nbits = 21\n"), REPLAY),
    ("nested without end", |place| write_config(place, format!("a = {}", "[".repeat(100_000))), REPLAY),
    ("larger than any", |place| write_config(place, "# much\n".repeat(200_000)), REPLAY),
    ("a folder", |place| fs::create_dir(place.path("c.toml")).unwrap(), REPLAY),
    (
        "a link to itself",
        |place| {
            write_config(place, "");
            link(&place.path("c.toml"), "c.toml");
        },
        REPLAY,
    ),
];

#[test]
fn configurations() {
    assert_report("bad_configurations", &report(&CONFIGURATIONS, empty));
}

/// Unusual but valid input.
#[test]
fn empty_configurations_and_carriage_returns_are_valid() {
    let place = Place::new();
    write_config(&place, "");
    place.stdout("replay trace --out empty --config c.toml");
    place.stdout("replay trace --out default");
    let layers = |out: &str| fs::read(place.path(out).join("layers.parquet")).unwrap();
    assert_eq!(layers("empty"), layers("default"));
    write_topology(&place, "name,m,n,k,\r\na,1,2,3,\r\n");
    place.stdout(CYCLES);
}
