//! The accuracy that training loses at a step error: the curve of a calibration, which trained networks with reuse.
//!
//! `analyzer/calibration/accuracy.csv` is embedded; docs/model.md, "Accuracy loss", says how its knots were measured.

use super::bound::{Bound, BoundKind, ErrorKind, ErrorLimit};
use crate::error::{AnalyzerError, Result};
use mercury_trace::checksum;
use std::path::Path;

/// The flag that names a curve.
pub const FLAG: &str = "--accuracy-curve";
/// The header of a curve's file.
const COLUMNS: [&str; 3] = ["step_error", "accuracy_loss", "upper"];
/// A step error may exceed what a bound allows by this share, which is the rounding of its sum.
pub const ROUNDING: f64 = 1e-9;
const BUILT_IN: &str = include_str!("../../calibration/accuracy.csv");

/// A loss of accuracy, percentage points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AccuracyLoss {
    /// The fitted mean.
    pub points: f64,
    /// Its upper confidence limit.
    pub upper: f64,
}

/// A point of the curve. Between knots the curve is linear.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Knot {
    step_error: f64,
    loss: AccuracyLoss,
}

/// The accuracy loss over the step error: from a step error of 0, rising, known up to the last knot.
#[derive(Debug, Clone, PartialEq)]
pub struct AccuracyCurve {
    knots: Vec<Knot>,
    /// The networks that were trained, if the file says so.
    pub networks: Option<String>,
    /// SHA-256 of the file.
    pub sha256: String,
}

impl AccuracyCurve {
    /// The curve of this project's calibration.
    pub fn built_in() -> Self {
        let path = Path::new("analyzer/calibration/accuracy.csv");
        Self::parse(BUILT_IN, path).expect("a test reads the embedded curve")
    }

    /// Reads the curve of another calibration.
    ///
    /// # Errors
    /// If the file cannot be read or has no valid curve.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| AnalyzerError::Flag {
            flag: FLAG,
            reason: format!("{}: {error}; give a text file with the columns {}", path.display(), COLUMNS.join(",")),
        })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self> {
        let mut networks = None;
        let mut has_header = false;
        let mut knots: Vec<Knot> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let fail = |field: &str, reason: String| {
                Err(AnalyzerError::results(path, &format!("line {number}, {field}"), reason))
            };
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            if let Some(comment) = line.strip_prefix('#') {
                networks = networks.or_else(|| comment.trim().strip_prefix("networks:").map(|it| it.trim().to_owned()));
            } else if !has_header {
                if !line.split(',').map(str::trim).eq(COLUMNS) {
                    return fail("header", format!("is {line:?}; the columns must be {}", COLUMNS.join(",")));
                }
                has_header = true;
            } else {
                match parse_knot(line, knots.last()) {
                    Ok(knot) => knots.push(knot),
                    Err((field, reason)) => return fail(field, reason),
                }
            }
        }
        if knots.len() < 2 {
            let reason = format!("there are {} knots; a curve has two or more below its header", knots.len());
            return Err(AnalyzerError::results(path, "knots", reason));
        }
        Ok(Self { knots, networks, sha256: checksum::hash_bytes(text.as_bytes()) })
    }

    /// The least loss that the calibration resolves, percentage points: the upper limit where the step error is 0.
    pub fn resolution(&self) -> f64 {
        self.knots[0].loss.upper
    }

    /// The largest step error of the calibration.
    pub fn last_step_error(&self) -> f64 {
        self.knots[self.knots.len() - 1].step_error
    }

    /// The upper limit of the loss at the largest step error of the calibration, percentage points.
    pub fn last_upper(&self) -> f64 {
        self.knots[self.knots.len() - 1].loss.upper
    }

    /// Predicts the loss at a step error; `None` beyond the last knot.
    pub fn predict(&self, step_error: f64) -> Option<AccuracyLoss> {
        let last = self.last_step_error();
        if step_error > last * (1.0 + ROUNDING) {
            return None;
        }
        let step_error = step_error.min(last);
        let place = self.knots.iter().position(|knot| step_error <= knot.step_error)?;
        let high = self.knots[place];
        let Some(low) = place.checked_sub(1).map(|before| self.knots[before]) else { return Some(high.loss) };
        let share = (step_error - low.step_error) / (high.step_error - low.step_error);
        let interpolate = |low: f64, high: f64| low + share * (high - low);
        Some(AccuracyLoss {
            points: interpolate(low.loss.points, high.loss.points),
            upper: interpolate(low.loss.upper, high.loss.upper),
        })
    }

    /// Finds the largest step error at which the upper limit of the loss is at most `limit`: at most that of the last knot.
    /// `None` if the calibration does not resolve such a limit.
    pub fn find_step_error(&self, limit: f64) -> Option<f64> {
        let place = self.knots.iter().rposition(|knot| knot.loss.upper <= limit)?;
        let low = self.knots[place];
        let Some(high) = self.knots.get(place + 1) else { return Some(low.step_error) };
        let share = (limit - low.loss.upper) / (high.loss.upper - low.loss.upper);
        Some(low.step_error + share * (high.step_error - low.step_error))
    }

    /// The limits on errors that bounds ask for, in the same order. Of losses that the calibration does not resolve, only a
    /// step error of 0 is known to keep the bound.
    pub fn limit_errors(&self, bounds: &[Bound]) -> Vec<ErrorLimit> {
        let limit = |bound: &Bound| match bound.kind {
            BoundKind::Error(kind) => ErrorLimit { kind, limit: bound.limit },
            BoundKind::AccuracyLoss => {
                let limit = self.find_step_error(bound.limit).unwrap_or(0.0);
                ErrorLimit { kind: ErrorKind::StepError, limit }
            }
        };
        bounds.iter().map(limit).collect()
    }
}

/// Parses the line of a knot that follows `previous`; an error names the field and the remedy.
fn parse_knot(line: &str, previous: Option<&Knot>) -> std::result::Result<Knot, (&'static str, String)> {
    let cells: Vec<&str> = line.split(',').map(str::trim).collect();
    let mut values = [0.0; COLUMNS.len()];
    if cells.len() != values.len() {
        return Err(("columns", format!("there are {} values; give {}", cells.len(), COLUMNS.join(","))));
    }
    for ((value, cell), name) in values.iter_mut().zip(cells).zip(COLUMNS) {
        let parsed = cell.parse().ok().filter(|value: &f64| value.is_finite());
        *value = parsed.ok_or_else(|| (name, format!("{cell:?} is no finite number; give one such as 0.1")))?;
    }
    let [step_error, points, upper] = values;
    let knot = Knot { step_error, loss: AccuracyLoss { points, upper } };
    match previous {
        None if step_error != 0.0 => {
            let reason = format!(
                "the first knot is at {step_error}; begin with a knot at 0, whose upper limit is the \
                                  least loss that the calibration resolves"
            );
            return Err((COLUMNS[0], reason));
        }
        Some(before) if step_error <= before.step_error => {
            return Err((
                COLUMNS[0],
                format!("{step_error} follows {}; sort knots by it, each once", before.step_error),
            ));
        }
        Some(before) if points < before.loss.points => {
            return Err((COLUMNS[1], format!("{points} follows {}; losses must not fall", before.loss.points)));
        }
        Some(before) if upper < before.loss.upper => {
            return Err((COLUMNS[2], format!("{upper} follows {}; upper limits must not fall", before.loss.upper)));
        }
        _ => (),
    }
    if upper < points {
        return Err((COLUMNS[2], format!("{upper} is below the loss of {points}; give its upper limit")));
    }
    Ok(knot)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURVE: &str = "# networks: two small ones\nstep_error,accuracy_loss,upper\n0,0,0.4\n0.1, 0.2, 1\n0.3,2,2\n0.4,2,2\n\n0.5,3,6\n";

    fn parse(text: &str) -> Result<AccuracyCurve> {
        AccuracyCurve::parse(text, Path::new("own.csv"))
    }

    #[test]
    fn the_embedded_curve_is_valid_and_names_its_networks() {
        assert!(AccuracyCurve::built_in().networks.is_some());
    }

    #[test]
    fn losses_and_step_errors_are_interpolated_between_knots() {
        let curve = parse(CURVE).unwrap();
        assert_eq!(curve.networks.as_deref(), Some("two small ones"));
        let predict = |step_error: f64| curve.predict(step_error).map(|loss| (loss.points, loss.upper));
        assert_eq!(predict(0.0), Some((0.0, 0.4)));
        assert_eq!(predict(0.05), Some((0.1, 0.7)));
        assert_eq!(predict(0.35), Some((2.0, 2.0)));
        assert_eq!(predict(0.5), Some((3.0, 6.0)));
        assert_eq!(predict(0.5001), None);
        // By hand: (0.7 - 0.4) / (1 - 0.4) of the way to 0.1; 2 is kept to the end of the level part; (5 - 2) / (6 - 2).
        for (limit, expected) in [(0.4, 0.0), (0.7, 0.05), (1.0, 0.1), (1.5, 0.2), (2.0, 0.4), (5.0, 0.475)] {
            let found = curve.find_step_error(limit).unwrap();
            assert!((found - expected).abs() < 1e-12, "{limit}: {found}");
        }
        // Never beyond the last knot, and nothing below the resolution.
        assert_eq!(curve.find_step_error(100.0), Some(0.5));
        assert_eq!(curve.find_step_error(0.39), None);
    }

    #[test]
    fn bounds_on_losses_become_limits_on_the_step_error() {
        let curve = parse(CURVE).unwrap();
        let bounds: Vec<Bound> = ["layer-error<=0.3", "accuracy-loss<=1.5"].map(|text| text.parse().unwrap()).to_vec();
        let limits = curve.limit_errors(&bounds);
        assert_eq!(limits[0], ErrorLimit { kind: ErrorKind::LayerError, limit: 0.3 });
        assert_eq!(limits[1].kind, ErrorKind::StepError);
        assert!((limits[1].limit - 0.2).abs() < 1e-12);
    }

    #[test]
    fn wrong_curves_are_refused_by_file_line_field_and_remedy() {
        let header = "step_error,accuracy_loss,upper\n";
        for (rows, part) in [
            ("0,0,0.3\n", "own.csv: knots: there are 1 knots; a curve has two or more"),
            ("0,0\n", "own.csv: line 2, columns: there are 2 values; give step_error,accuracy_loss,upper"),
            ("0,0,1\n0.1,0,inf\n", "own.csv: line 3, upper: \"inf\" is no finite number"),
            ("0,zero,1\n", "own.csv: line 2, accuracy_loss: \"zero\" is no finite number"),
            ("0.1,0,1\n0.2,0,1\n", "own.csv: line 2, step_error: the first knot is at 0.1; begin with a knot at 0"),
            ("0,0,1\n# twice\n0,0,1\n", "own.csv: line 4, step_error: 0 follows 0; sort knots"),
            ("0,1,1\n0.1,0.5,1\n", "own.csv: line 3, accuracy_loss: 0.5 follows 1; losses must not fall"),
            ("0,0,1\n0.1,0.5,0.9\n", "own.csv: line 3, upper: 0.9 follows 1; upper limits must not fall"),
            ("0,0,1\n0.1,1.5,1.2\n", "own.csv: line 3, upper: 1.2 is below the loss of 1.5; give its upper limit"),
        ] {
            let error = parse(&format!("{header}{rows}")).unwrap_err().to_string();
            assert!(error.contains(part), "{rows}: {error}");
        }
        let error = parse("0,0,0.3\n0.1,1,2\n").unwrap_err().to_string();
        assert!(error.contains("own.csv: line 1, header: is \"0,0,0.3\"; the columns must be"), "{error}");
        assert!(parse("").unwrap_err().to_string().contains("there are 0 knots"));
    }
}
