//! A report: results as one HTML file that opens without a network.
//!
//! `run` parses `run.json`, `source` reads and checks folders of results, `view` collects the data
//! of one configuration, `design` its settings per layer, `sweeps` compares configurations, `search`
//! collects what a search found, `page` renders the page. The page does not depend on time or
//! machine: equal results with equal names give equal bytes.

mod bounds;
mod design;
mod layers;
mod page;
pub(crate) mod run;
mod search;
pub(crate) mod source;
mod sweeps;
mod view;

use crate::error::{AnalyzerError, Result};
use crate::labels::name_results;
use layers::Row;
use mercury_trace::{Trace, checksum, manifest};
use run::ReportedRun;
use search::SearchView;
use serde::Serialize;
use serde_json::json;
use source::Source;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use view::View;

/// The data of the page's scripts.
#[derive(Debug, Default, Serialize)]
struct Data {
    /// Configurations that are shown in full.
    views: Vec<View>,
    /// What searches found.
    searches: Vec<SearchView>,
    /// Folders of results.
    sources: Vec<Folder>,
    /// One row per configuration; for a large sweep, only those on its frontier.
    configurations: Vec<Row>,
    /// Training losses, by the identity of the trace.
    losses: BTreeMap<String, Vec<Row>>,
}

/// A folder of results.
#[derive(Debug, Serialize)]
struct Folder {
    /// Identity of the trace: the SHA-256 of its manifest.
    trace: String,
    /// The replayed part of the trace, as flags; `None` for all of it.
    part: Option<String>,
    /// How configurations were chosen: `replayed`, `swept` or `searched`.
    kind: &'static str,
    /// Number of configurations.
    configurations: usize,
}

impl Folder {
    fn new(source: &Source) -> Self {
        Self {
            trace: source.run.trace.manifest_sha256.clone(),
            part: source.run.part(),
            kind: match (&source.run.search, &source.axes) {
                (Some(_), _) => "searched",
                (None, Some(_)) => "swept",
                (None, None) => "replayed",
            },
            configurations: source.run.configurations.len(),
        }
    }
}

/// A report.
#[derive(Debug)]
pub struct Report {
    data: Data,
}

impl Report {
    /// Reads folders of results, and their traces for the training losses.
    ///
    /// # Errors
    /// If a folder holds no valid results, or none of the results belong to a trace.
    pub fn read(results: &[PathBuf], traces: &[PathBuf]) -> Result<Self> {
        let mut data = Data::default();
        let runs = results.iter().map(|dir| source::read_run(dir)).collect::<Result<Vec<ReportedRun>>>()?;
        let folders: Vec<(&Path, &ReportedRun)> = results.iter().map(PathBuf::as_path).zip(&runs).collect();
        let names = name_results(&folders);
        for ((dir, run), name) in results.iter().zip(runs).zip(names) {
            let source = Source::read(dir, run, name)?;
            let search = SearchView::new(&source)?;
            let points = sweeps::list_points(&source)?;
            let place = search.is_some().then_some(data.searches.len());
            for configuration in sweeps::choose_views(&source, &points) {
                data.views.push(View::new(&source, configuration, place)?);
            }
            data.searches.extend(search);
            data.configurations.extend(points);
            data.sources.push(Folder::new(&source));
        }
        sweeps::mark_frontier(&mut data.configurations);
        for dir in traces {
            let (identity, losses) = read_losses(dir)?;
            if !data.views.iter().any(|view| view.trace == identity) {
                let reason = format!("{}: none of the results belong to this trace; leave it out", dir.display());
                return Err(AnalyzerError::Flag { flag: "--trace", reason });
            }
            data.losses.insert(identity, losses);
        }
        Ok(Self { data })
    }

    /// Renders the page.
    pub fn html(&self) -> String {
        page::render(&self.data)
    }
}

/// The identity of a trace and the loss of each of its training steps.
fn read_losses(dir: &Path) -> Result<(String, Vec<Row>)> {
    let trace = Trace::open(dir)?;
    let identity = checksum::hash_file(&trace.dir().join(manifest::FILE_NAME))?;
    let row = |step: &mercury_trace::steps::Step| {
        let json = json!({"step": step.step, "loss": step.loss, "captured": step.captured});
        json.as_object().cloned().unwrap_or_default()
    };
    Ok((identity, trace.steps()?.iter().map(row).collect()))
}
