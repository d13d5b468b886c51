//! What `search` says about bounds on the accuracy loss of training.

use super::console::Console;
use crate::error::{AnalyzerError, Result};
use crate::schema::run::CurveRecord;
use crate::search::accuracy_curve::{FLAG, ROUNDING};
use crate::search::bound::Bound;
use crate::search::found::Found;
use crate::search::judge::Method;
use crate::search::outcome::Question;

/// Refuses a bound that the calibration does not resolve, and warns of one that it does not reach.
pub fn check_bound(question: &Question, console: Console) -> Result<()> {
    let Some(bound) = question.accuracy_bound() else { return Ok(()) };
    let curve = &question.curve;
    if bound.limit < curve.resolution() {
        let least = curve.resolution();
        let reason = format!(
            "{bound}: the calibration resolves losses of {least} points and more; give accuracy-loss<={least} or more, a \
             bound on an error such as step-error, or a finer calibration ({FLAG})"
        );
        return Err(AnalyzerError::Flag { flag: "--bound", reason });
    }
    if bound.limit > curve.last_upper() {
        let last = curve.last_step_error();
        console.warn(format_args!(
            "{bound}: the calibration ends at a step error of {last}; larger errors are not known to be accepted, so this \
             bound is step-error <= {last}"
        ));
    }
    Ok(())
}

/// Notes that the folder's earlier answer read the bound by another curve.
pub fn compare_with_earlier(earlier: Option<&CurveRecord>, question: &Question, console: Console) {
    let (Some(earlier), Some(bound)) = (earlier, question.accuracy_bound()) else { return };
    let curve = &question.curve;
    let now = curve.find_step_error(bound.limit).unwrap_or(0.0);
    let is_another = |before: &f64| earlier.sha256 != curve.sha256 && before.total_cmp(&now).is_ne();
    if let Some(before) = earlier.allowed_step_error.filter(is_another) {
        console.note(format_args!(
            "the earlier search in this folder used another accuracy curve: its bound was step-error <= {before:.4}, that of \
             {bound} is now step-error <= {now:.4}"
        ));
    }
}

/// Warns where judged data contradict the bound, and says which networks the prediction holds for.
pub fn judge_design(found: &Found, console: Console) {
    let Some(bound) = found.question.accuracy_bound() else { return };
    let figures = found.outcomes[found.find_best()].method(Method::PerLayer).figures();
    if let Some(warning) = warn_of_loss(found.question, bound, figures.step_error) {
        console.warn(warning);
    }
    let networks = found.question.curve.networks.as_deref().unwrap_or("not named in its file");
    console.note(format_args!(
        "accuracy losses are predicted from a calibration on few networks ({networks}); other networks may differ"
    ));
}

/// The warning that a judged step error exceeds what the bound allows.
fn warn_of_loss(question: &Question, bound: Bound, step_error: f64) -> Option<String> {
    let curve = &question.curve;
    let judged = format!("the design's step error is {step_error:.4} where judged");
    match curve.predict(step_error) {
        None => Some(format!(
            "{judged}, but the calibration ends at {}; its accuracy loss is not known",
            curve.last_step_error()
        )),
        Some(loss) if loss.upper > bound.limit * (1.0 + ROUNDING) => Some(format!(
            "{judged}, with an accuracy loss of up to {:.2} points: more than {bound}; lower the bound, or capture more steps",
            loss.upper
        )),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::accuracy_curve::AccuracyCurve;
    use crate::search::bound::Objective;

    #[test]
    fn judged_errors_beyond_the_bound_or_the_calibration_are_warned_of() {
        let bound: Bound = "accuracy-loss<=1".parse().unwrap();
        let (curve, command) = (AccuracyCurve::built_in(), String::new());
        let allowed = curve.find_step_error(1.0).unwrap();
        let last = curve.last_step_error();
        let selection = String::new();
        let question = Question { objective: Objective::Cycles, bounds: vec![bound], curve, command, selection };
        let warn = |step_error: f64| warn_of_loss(&question, bound, step_error).unwrap_or_default();
        assert_eq!(warn(0.99 * allowed), "");
        assert!(warn(1.01 * allowed).contains("points: more than accuracy-loss <= 1; lower the bound"));
        assert!(
            warn(1.01 * last).contains(&format!("but the calibration ends at {last}; its accuracy loss is not known"))
        );
    }
}
