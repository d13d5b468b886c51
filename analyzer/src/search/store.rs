//! The folder of a search: the results of all candidates by layer, which stay for other bounds, and what was found.

use super::evidence::{Evidence, Folds};
use super::space::Space;
use crate::error::{AnalyzerError, Result};
use crate::output::units::UnitStore;
use crate::output::work::{Kind, WorkDir};
use crate::replay::{Limit, Replay};
use crate::request::Unit;
use crate::result::PassResult;
use crate::schema;
use crate::schema::run::{CurveRecord, RUN_FILE};
use mercury_trace::atomic::Unsynced;
use mercury_trace::checksum::{self, Checksums};
use mercury_trace::geometry::Pass;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

/// The file that identifies the search.
pub const IDENTITY: &str = "search.json";
const KIND: Kind = Kind {
    name: "search",
    identity: IDENTITY,
    differs: "another trace, label, other readings, settings, folds or seeds",
    lasting: true,
};
/// The design that the search recommends.
pub const BEST: &str = "best.toml";
/// The tables of a complete search.
pub const TABLES: [&str; 5] = [
    schema::layers::TABLE.file,
    schema::models::TABLE.file,
    schema::configurations::TABLE.file,
    schema::frontier::TABLE.file,
    schema::choices::TABLE.file,
];

/// The folder of a search.
pub struct SearchDir {
    work: WorkDir,
}

/// A replay of all candidates: of everything that was captured, or of a fold of samples.
pub struct Evaluation<'a> {
    /// The replay.
    pub replay: Replay<'a>,
    /// The samples of the fold; `None`: all.
    pub samples: Option<Range<usize>>,
}

impl<'a> Evaluation<'a> {
    /// The evaluations that folds ask for: that of everything first.
    pub fn list(replay: impl Fn() -> Result<Replay<'a>>, folds: &Folds, limit: Limit) -> Result<Vec<Self>> {
        let mut evaluations = vec![Self { replay: replay()?.with_limit(limit)?, samples: None }];
        if let Folds::Samples(ranges) = folds {
            for samples in ranges {
                let replay = replay()?.with_samples(samples.clone()).with_limit(limit)?;
                evaluations.push(Self { replay, samples: Some(samples.clone()) });
            }
        }
        Ok(evaluations)
    }
}

impl SearchDir {
    /// Begins a search in an empty or missing folder, or continues the same search, if only with other bounds.
    pub fn open(dir: &Path, run: &str, folds: &Folds) -> Result<Self> {
        let folds = serde_json::to_string(folds).expect("folds are lists of numbers");
        let identity = format!("{{\"folds\": {folds},\n\"run\": {run}}}\n");
        Ok(Self { work: WorkDir::open(dir, KIND, &identity)? })
    }

    /// The results of an evaluation's units.
    pub fn units(&self, samples: Option<&Range<usize>>) -> UnitStore {
        match samples {
            None => self.work.units(),
            Some(samples) => {
                UnitStore::new(self.work.path().join(format!("samples-{}-{}", samples.start, samples.end)))
            }
        }
    }

    /// Evaluates all candidates on all layers, but for those that were evaluated before. `progress` is called with each
    /// layer before it is evaluated.
    pub fn evaluate(
        &self,
        space: &Space,
        evaluations: &[Evaluation],
        folds: &Folds,
        progress: impl Fn(&Unit),
    ) -> Result<Evidence> {
        let mut evidence = Evidence::default();
        for evaluation in evaluations {
            let Evaluation { replay, samples } = evaluation;
            let store = self.units(samples.as_ref());
            let units = replay.units();
            let steps: Vec<u64> =
                units.iter().map(|unit| unit.step.step).collect::<BTreeSet<_>>().into_iter().collect();
            let layers = replay.layers_in_all();
            let firsts: Vec<usize> = steps.iter().map(|_| evidence.add_parts(space, layers)).collect();
            let first = |step: u64| firsts[steps.binary_search(&step).expect("a unit's step is among them")];
            let mut pending = Vec::new();
            for unit in units {
                // A unit that cannot be read is evaluated again.
                match store.read(unit.step.step, unit.layer_index) {
                    Ok(Some(results)) => {
                        progress(&unit);
                        for result in &results {
                            evidence.add(space, first(result.step), result);
                        }
                    }
                    Ok(None) | Err(_) => pending.push(unit),
                }
            }
            replay.run(&pending, &progress, |unit, results| {
                for result in &results {
                    evidence.add(space, first(result.step), result);
                }
                store.keep(unit, &results)
            })?;
            let seeds = space.seeds as usize;
            let parts = |first: usize| first..first + seeds;
            match (samples, folds) {
                (Some(_), _) => evidence.folds.push(firsts.iter().copied().flat_map(parts).collect()),
                (None, Folds::Steps(by_fold)) => {
                    for fold in by_fold {
                        // A step in which no chosen layer was captured has no parts.
                        let captured = fold.iter().filter_map(|step| steps.binary_search(step).ok());
                        evidence.folds.push(captured.flat_map(|place| parts(firsts[place])).collect());
                    }
                }
                (None, Folds::Samples(_) | Folds::None) => (),
            }
            if samples.is_none() {
                evidence.all = firsts.iter().copied().flat_map(parts).collect();
            }
        }
        Ok(evidence)
    }

    /// Stores the results of units that partitions have evaluated.
    pub fn adopt(&self, replay: &Replay, results: &[PassResult]) -> Result<()> {
        let store = self.units(None);
        for unit in replay.units() {
            let is_own = |result: &&PassResult| (result.step, result.layer_index) == (unit.step.step, unit.layer_index);
            let own: Vec<PassResult> = results.iter().filter(is_own).cloned().collect();
            store.keep(&unit, &own)?;
        }
        Ok(())
    }

    /// Collects the results of designs, each given by the candidates of its layers' passes, by number among all
    /// candidates. They are those of the first projection.
    pub fn collect_designs(
        &self,
        space: &Space,
        evaluation: &Evaluation,
        designs: &[BTreeMap<(usize, Pass), usize>],
    ) -> Result<Vec<PassResult>> {
        let store = self.units(evaluation.samples.as_ref());
        let seeds = space.seeds as usize;
        let mut all = Vec::new();
        for unit in evaluation.replay.units() {
            let place = || AnalyzerError::Folder {
                path: store.path(unit.step.step, unit.layer_index),
                reason: "is missing; run the search again, it continues".to_owned(),
            };
            let results = store.read(unit.step.step, unit.layer_index)?.ok_or_else(place)?;
            for (number, design) in designs.iter().enumerate() {
                let is_chosen = |result: &&PassResult| {
                    design.get(&(result.layer_index, result.pass)) == Some(&(result.configuration / seeds))
                        && result.configuration.is_multiple_of(seeds)
                };
                let chosen = results.iter().filter(is_chosen).cloned();
                all.extend(chosen.map(|result| PassResult { configuration: number, ..result }));
            }
        }
        Ok(evaluation.replay.finish(all))
    }

    /// The accuracy curve of the search that the folder has; `None` without a complete one.
    pub fn read_curve(&self) -> Option<CurveRecord> {
        let text = std::fs::read(self.work.path().join(RUN_FILE)).ok()?;
        let run: serde_json::Value = serde_json::from_slice(&text).ok()?;
        serde_json::from_value(run["search"]["accuracy_curve"].clone()).ok()
    }

    /// Removes the mark of a complete search, before its files are replaced.
    pub fn begin_writing(&self) -> Result<()> {
        let path = self.work.path().join(RUN_FILE);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(AnalyzerError::io(path)(error)),
            _ => Ok(()),
        }
    }

    /// Writes what was found: `tables` fills the folder with tables; `designs` are files of configurations. `run` is
    /// written last: its presence marks a complete search.
    pub fn finish(
        &self,
        run: &str,
        designs: &[(String, String)],
        tables: impl FnOnce(&Path, &mut Unsynced) -> Result<()>,
    ) -> Result<()> {
        let dir = self.work.path();
        let mut files = Unsynced::default();
        for (name, text) in designs {
            files.write(dir.join(name), text.as_bytes())?;
        }
        tables(dir, &mut files)?;
        let names = TABLES.into_iter().chain([IDENTITY]).chain(designs.iter().map(|(name, _)| name.as_str()));
        let mut sums = Checksums::from_files(dir, names)?;
        sums.insert(RUN_FILE, checksum::hash_bytes(run.as_bytes()));
        sums.write_among(&mut files, dir)?;
        files.sync(dir)?;
        self.work.write(RUN_FILE, run.as_bytes())
    }
}
