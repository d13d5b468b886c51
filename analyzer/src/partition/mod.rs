//! Replays split into partitions, for several processes or machines, and their merging.
//!
//! A trace is split into units: one layer of one captured step each.
//!
//! Smaller units are impossible, since results of single samples do not add up to the results of a
//! layer:
//! - The PE sets of a row-stationary array run ahead from one sample into the next.
//! - An MCACHE of scope `batch` keeps its entries from sample to sample.
//! - The error of the weight gradient is that of a sum over all samples.
//! - Sums of errors round differently in another order.
//!
//! Larger units are unnecessary: signature lengths follow from the losses, which every partition
//! has, and layers are switched off afterwards, in the merged results.

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

/// The file that describes a partition, in its folder.
pub const IDENTITY: &str = "partition.json";
const KIND: Kind = Kind {
    name: "partition",
    identity: IDENTITY,
    differs: "another trace, configuration or label, or another part of it",
    lasting: true,
};
/// Maximum size of [`IDENTITY`], bytes: far above that of any trace.
const MAX_BYTES: u64 = 1 << 30;
/// Maximum number of partitions: far above the size of any cluster.
const MAX_PARTITIONS: u32 = 1 << 20;

/// The number of a partition and the number of all partitions, written as `2/7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Share {
    /// Number of this partition, from 1.
    pub number: u32,
    /// Number of partitions.
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
            .ok_or_else(|| format!("is not I/N with I from 1 to N and N up to {MAX_PARTITIONS}, such as 2/7"))
    }
}

impl Share {
    fn is_valid(self) -> bool {
        (1..=self.of).contains(&self.number) && self.of <= MAX_PARTITIONS
    }
}

/// The description of a partition, the contents of [`IDENTITY`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// Which partition it is.
    pub share: Share,
    /// Step and layer index of each unit.
    pub units: Vec<(u64, usize)>,
    /// Number of units in all partitions together.
    pub units_in_all: usize,
    /// Number of layers of the model.
    pub layers: usize,
    /// The text of `run.json`.
    pub run: String,
}

impl Partition {
    /// Describes one share of a replay, and selects its units.
    pub fn new<'a>(share: Share, replay: &Replay<'a>, run: String) -> (Self, Vec<Unit<'a>>) {
        let units = split::select_share(share, replay.trace(), replay.measures(), replay.units());
        let places = units.iter().map(|unit| (unit.step.step, unit.layer_index)).collect();
        let units_in_all = replay.units().len();
        (Self { share, units: places, units_in_all, layers: replay.layers_in_all(), run }, units)
    }

    /// Reads the partition in a folder, with the bytes of its [`IDENTITY`]; `None` if there is
    /// none.
    ///
    /// # Errors
    /// If the file cannot be read or is invalid.
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
        let partition: Self = serde_json::from_slice(&text).map_err(|error| {
            broken(format!("is not a file of `replay --partition` ({error}); run the replay again"))
        })?;
        if !partition.share.is_valid() {
            return Err(broken(format!("there is no partition {}; run the replay again", partition.share)));
        }
        Ok(Some((partition, text)))
    }

    /// Names of all files of a complete partition, except the list of checksums.
    pub fn files(&self) -> Vec<String> {
        let parts = self.units.iter().map(|&(step, layer_index)| Self::part(step, layer_index));
        std::iter::once(IDENTITY.to_owned()).chain(parts).collect()
    }

    /// The name of a unit's file.
    fn part(step: u64, layer_index: usize) -> String {
        format!("{PARTS}/{}", file_name(step, layer_index))
    }
}

/// The folder of a partition during its replay.
pub struct PartitionDir {
    work: WorkDir,
    partition: Partition,
}

impl PartitionDir {
    /// Begins in an empty or missing folder, or continues the same partition.
    pub fn open(dir: &Path, partition: Partition) -> Result<Self> {
        let mut identity = serde_json::to_string_pretty(&partition).expect("a partition has string keys");
        identity.push('\n');
        Ok(Self { work: WorkDir::open(dir, KIND, &identity)?, partition })
    }

    /// The store of the units' results.
    pub fn units(&self) -> UnitStore {
        self.work.units()
    }

    /// Whether all units are completed and their files are intact.
    pub fn is_complete(&self) -> bool {
        let dir = self.work.path();
        let whole = |sums: &Checksums| self.partition.files().iter().all(|name| sums.check(dir, name).is_ok());
        Checksums::read(dir).ok().flatten().is_some_and(|sums| whole(&sums))
    }

    /// Marks the partition as complete by writing the checksums of its files.
    pub fn finish(self) -> Result<()> {
        let dir = self.work.path();
        Ok(Checksums::from_files(dir, self.partition.files())?.write(dir)?)
    }
}

/// A complete partition in its folder.
#[derive(Debug)]
struct Found {
    dir: PathBuf,
    partition: Partition,
    sums: Checksums,
}
