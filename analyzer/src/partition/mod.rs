//! Replays in parts, by several processes or machines, and the parts put together.
//!
//! A trace is split by units, the layers of its captured steps. Nothing smaller would do: what is found in a
//! layer's samples does not add up sample by sample. The PE sets of a row-stationary array run ahead from one
//! sample into the next, an MCACHE of scope `batch` lives through all of them, the weight gradient's error is one
//! of sums over all of them, and sums of errors round by their order. Nothing larger is needed: signatures' lengths
//! follow from the losses, which every partition has, and layers are switched off afterwards, in the results.

pub mod merge;
pub mod split;

use crate::error::{AnalyzerError, Result};
use crate::output::units::{UnitStore, file_name};
use crate::output::work::{Kind, PARTS, WorkDir};
use crate::replay::Replay;
use crate::request::Unit;
use mercury_trace::checksum::Checksums;
use mercury_trace::{TraceError, input};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What a partition is one of.
pub const IDENTITY: &str = "partition.json";
const KIND: Kind = Kind {
    name: "partition",
    identity: IDENTITY,
    differs: "another trace, configuration or label, or another part of it",
    lasting: true,
};
/// Most bytes of the identity: far above those of any trace.
const MAX_BYTES: u64 = 1 << 30;
/// Most partitions: far above any cluster.
const MAX_PARTITIONS: u32 = 1 << 20;

/// One of so many partitions, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Share {
    /// Which.
    pub number: u32,
    /// Of how many.
    pub of: u32,
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let share = text
            .split_once('/')
            .and_then(|(number, of)| Some(Self { number: number.parse().ok()?, of: of.parse().ok()? }));
        share
            .filter(|share| share.is_valid())
            .ok_or_else(|| format!("is not I/N, such as 2/7, with I from 1 to N and N up to {MAX_PARTITIONS}"))
    }
}

impl Share {
    fn is_valid(self) -> bool {
        (1..=self.of).contains(&self.number) && self.of <= MAX_PARTITIONS
    }
}

/// What a partition's folder holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// Which part it is.
    pub share: Share,
    /// Step and layer of its units.
    pub units: Vec<(u64, usize)>,
    /// How many units all partitions have together.
    pub units_in_all: usize,
    /// Layers of the model.
    pub layers: usize,
    /// The text of `run.json`.
    pub run: String,
}

impl Partition {
    /// One share of a replay, and its units.
    pub fn new<'a>(share: Share, replay: &Replay<'a>, run: String) -> (Self, Vec<Unit<'a>>) {
        let units = split::share_of(share, replay.trace(), replay.measures(), replay.units());
        let places = units.iter().map(|unit| (unit.step.step, unit.layer_index)).collect();
        let units_in_all = replay.units().len();
        (Self { share, units: places, units_in_all, layers: replay.layers_in_all(), run }, units)
    }

    /// The partition that a folder holds, with the text that says so; `None` where it holds none.
    pub fn find(dir: &Path) -> Result<Option<(Self, Vec<u8>)>> {
        let path = dir.join(IDENTITY);
        let text = match input::read(&path, MAX_BYTES) {
            Err(TraceError::Io { error, .. })
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return Ok(None);
            }
            other => other?,
        };
        let broken = |reason: String| AnalyzerError::Folder { path: path.clone(), reason };
        let partition: Self = serde_json::from_slice(&text)
            .map_err(|error| broken(format!("is not what `replay --partition` wrote ({error}); run it again")))?;
        if !partition.share.is_valid() {
            return Err(broken(format!("there is no partition {}; run it again", partition.share)));
        }
        Ok(Some((partition, text)))
    }

    /// The files that a complete partition has beside their checksums.
    pub fn files(&self) -> Vec<String> {
        let parts = self.units.iter().map(|&(step, layer_index)| Self::part(step, layer_index));
        std::iter::once(IDENTITY.to_owned()).chain(parts).collect()
    }

    /// The file of a unit.
    fn part(step: u64, layer_index: usize) -> String {
        format!("{PARTS}/{}", file_name(step, layer_index))
    }
}

/// A partition's folder while it is worked on.
pub struct PartitionDir {
    work: WorkDir,
    partition: Partition,
}

impl PartitionDir {
    /// Begins in an empty or missing folder, or goes on with the same partition.
    pub fn open(dir: &Path, partition: Partition) -> Result<Self> {
        let mut identity = serde_json::to_string_pretty(&partition).expect("a partition has string keys");
        identity.push('\n');
        Ok(Self { work: WorkDir::open(dir, KIND, &identity)?, partition })
    }

    /// Where units that are done are kept.
    pub fn units(&self) -> UnitStore {
        self.work.units()
    }

    /// Whether all units are done, and as they were written.
    pub fn is_complete(&self) -> bool {
        let dir = self.work.path();
        let whole = |sums: &Checksums| self.partition.files().iter().all(|name| sums.check(dir, name).is_ok());
        Checksums::read(dir).ok().flatten().is_some_and(|sums| whole(&sums))
    }

    /// Says that all units are done.
    pub fn finish(self) -> Result<()> {
        let dir = self.work.path();
        Ok(Checksums::of_files(dir, self.partition.files())?.write(dir)?)
    }
}

/// A partition and where it is.
#[derive(Debug)]
struct Found {
    dir: PathBuf,
    partition: Partition,
    sums: Checksums,
}
