//! Partitions put together: the results of the one run that they are parts of.

use super::{Found, IDENTITY, Partition, Share};
use crate::adaptation;
use crate::config::Config;
use crate::error::{AnalyzerError, Result};
use crate::output::units::UnitStore;
use crate::output::work::PARTS;
use crate::result::PassResult;
use crate::schema::run::RunRecord;
use mercury_trace::checksum::{self, Checksums};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

/// What a single run would have had.
#[derive(Debug)]
pub struct Merged {
    /// The text of `run.json`.
    pub run: String,
    /// The configurations of the run.
    pub configs: Vec<Config>,
    /// The results of all units.
    pub results: Vec<PassResult>,
    /// Partitions.
    pub partitions: usize,
    /// Units.
    pub units: usize,
    /// Layers of the model.
    pub layers: usize,
}

/// Reads the partitions in these folders, in whatever order: each of them must be there once, complete and as it was
/// written. A folder that holds no partition itself stands for those in its folders.
pub fn read(dirs: &[PathBuf]) -> Result<Merged> {
    let dirs: Vec<PathBuf> = dirs.iter().map(|dir| within(dir)).collect::<Result<Vec<_>>>()?.concat();
    // Whatever is read at once, the first of several faults is the one that is told.
    let partitions: Vec<Result<Found>> = dirs.par_iter().map(|dir| find(dir)).collect();
    let partitions: Vec<Found> = partitions.into_iter().collect::<Result<_>>()?;
    let [first, rest @ ..] = partitions.as_slice() else {
        return Err(AnalyzerError::Flag { flag: "DIR", reason: "give the folders of all partitions".to_owned() });
    };
    rest.iter().try_for_each(|other| check_same_run(first, other))?;
    check_all_there(&partitions)?;
    let record: RunRecord<Config> = serde_json::from_str(&first.partition.run)
        .map_err(|error| fault(&first.dir, format!("its run is none ({error}); run it again")))?;
    let units: Vec<(&Found, (u64, usize))> =
        partitions.iter().flat_map(|found| found.partition.units.iter().map(move |&unit| (found, unit))).collect();
    let of_units: Vec<Result<Vec<PassResult>>> =
        units.par_iter().map(|&(found, unit)| select_results(found, unit, record.configurations.len())).collect();
    let mut results = Vec::new();
    for of_unit in of_units {
        results.extend(of_unit?);
    }
    let RunRecord { configurations: configs, measures, .. } = record;
    let whole = measures.selection.steps.is_empty() && measures.selection.passes.is_empty();
    let windows: Vec<u32> = configs.iter().map(|config| config.stop.window).collect();
    let results = adaptation::finish(results, &windows, whole);
    let Partition { run, units_in_all: units, layers, .. } = first.partition.clone();
    Ok(Merged { run, configs, results, partitions: partitions.len(), units, layers })
}

fn fault(dir: &Path, reason: String) -> AnalyzerError {
    AnalyzerError::Folder { path: dir.to_owned(), reason }
}

/// The folder itself, or the folders in it that hold partitions, by name.
fn within(dir: &Path) -> Result<Vec<PathBuf>> {
    if !dir.is_dir() || dir.join(IDENTITY).exists() {
        return Ok(vec![dir.to_owned()]);
    }
    let entries =
        fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(AnalyzerError::io(dir))?;
    let named = |entry: &DirEntry| if dir == Path::new(".") { entry.file_name().into() } else { entry.path() };
    let mut found: Vec<PathBuf> = entries.iter().map(named).filter(|path| path.join(IDENTITY).exists()).collect();
    found.sort();
    Ok(if found.is_empty() { vec![dir.to_owned()] } else { found })
}

fn find(dir: &Path) -> Result<Found> {
    let (partition, text) = Partition::find(dir)?
        .ok_or_else(|| fault(dir, "is no partition; give folders that `replay --partition` wrote".to_owned()))?;
    let Some(sums) = Checksums::read(dir)? else {
        let reason = format!(
            "partition {} is not complete (it has no {}); run it again, it goes on where it was",
            partition.share,
            checksum::FILE_NAME
        );
        return Err(fault(dir, reason));
    };
    sums.check_bytes(dir, IDENTITY, &text)?;
    Ok(Found { dir: dir.to_owned(), partition, sums })
}

fn check_same_run(first: &Found, other: &Found) -> Result<()> {
    let reason = if first.partition.share.of != other.partition.share.of {
        format!("is partition {}, but {} is {}", other.partition.share, first.dir.display(), first.partition.share)
    } else if (&first.partition.run, first.partition.layers) != (&other.partition.run, other.partition.layers) {
        format!("is of another trace, configuration or label than {}", first.dir.display())
    } else {
        return Ok(());
    };
    Err(fault(&other.dir, format!("{reason}; give the partitions of one run")))
}

/// Refuses partitions and units that are missing or there twice.
fn check_all_there(partitions: &[Found]) -> Result<()> {
    let mut known: BTreeMap<Share, &Found> = BTreeMap::new();
    let mut units: BTreeMap<(u64, usize), &Found> = BTreeMap::new();
    for found in partitions {
        let share = found.partition.share;
        if let Some(other) = known.insert(share, found) {
            return Err(fault(
                &found.dir,
                format!("is partition {share}, as {} is; leave one out", other.dir.display()),
            ));
        }
        for &(step, layer) in &found.partition.units {
            if let Some(other) = units.insert((step, layer), found) {
                let reason = format!("has layer {layer} of step {step}, as {} has; run it again", other.dir.display());
                return Err(fault(&found.dir, reason));
            }
        }
    }
    let first = &partitions[0];
    let of = first.partition.share.of;
    let missing: Vec<String> = (1..=of)
        .map(|number| Share { number, of })
        .filter(|share| !known.contains_key(share))
        .map(|share| share.to_string())
        .collect();
    if !missing.is_empty() {
        let some = missing[..missing.len().min(10)].join(", ");
        let more = if missing.len() > 10 { format!(" and {} more", missing.len() - 10) } else { String::new() };
        let (noun, verb) = if missing.len() == 1 { ("partition", "is") } else { ("partitions", "are") };
        let reason = format!("{noun} {some}{more} {verb} missing; give all {of}");
        return Err(AnalyzerError::Flag { flag: "DIR", reason });
    }
    if units.len() != first.partition.units_in_all {
        let reason = format!("there are {} units, of {}; run it again", units.len(), first.partition.units_in_all);
        return Err(fault(&first.dir, reason));
    }
    Ok(())
}

fn select_results(found: &Found, (step, layer_index): (u64, usize), configurations: usize) -> Result<Vec<PassResult>> {
    let name = Partition::part(step, layer_index);
    let check = |bytes: &[u8]| Ok(found.sums.check_bytes(&found.dir, &name, bytes)?);
    let results = UnitStore::new(found.dir.join(PARTS)).read_checked(step, layer_index, check)?;
    if results.iter().any(|result| result.configuration >= configurations) {
        let reason = format!("layer {layer_index} of step {step} has results of no configuration; run it again");
        return Err(fault(&found.dir, reason));
    }
    Ok(results)
}
