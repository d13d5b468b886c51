"use strict";

/** Maximum number of results in the chart of layers: the number of colours. */
const MOST_BY_LAYER = 6;

/** The number of captured steps that a view or a row of a configuration sums; undefined for a source. */
function countSteps(one) {
  return one.summary?.steps ?? one.steps;
}

/** Whether two views or rows cover the same steps of the same part of a trace, so that their cycles can be compared. */
function isSameWork(a, b) {
  const [first, second] = [countSteps(a), countSteps(b)];
  return a.trace === b.trace && a.part === b.part && (first === undefined || second === undefined || first === second);
}

/** Whether the baselines of rows differ, so that their speed-ups cannot be compared. */
function hasUnlikeBaselines(rows) {
  return rows.some((row) => row.baseline_cycles !== rows[0].baseline_cycles);
}

/** Whether two views have the same layers, passes and number of steps, as two replays of one model do. */
function hasSameLayers(a, b) {
  const layers = (view) => view.layers.map((row) => `${row.layer} ${row.pass}`).join("\n");
  return a.models.length === b.models.length && layers(a) === layers(b);
}

/** A view's name with its number, which identifies the results where a chart cuts the name. */
function numberedName(view) {
  return `${DATA.views.indexOf(view) + 1}: ${view.name}`;
}

function hasSeveralResults() {
  return DATA.views.length > 1;
}

/** Compares all results; then, by layer, the results with the same layers as the chosen one. */
function sideBySide(view) {
  const views = DATA.views;
  const alike = views.filter((other) => hasSameLayers(view, other));
  const shown = [view, ...alike.filter((other) => other !== view)].slice(0, MOST_BY_LAYER);
  const runs = views.map((other, place) => ({ ...other.summary, name: numberedName(other), place }));
  const rows = shown.flatMap((other) => other.layers.map((row) => ({ ...row, name: numberedName(other) })));
  return [
    element("p", {}, sideBySideText(view)),
    sortableTable("One row per result; click a header to sort by its column", runColumns(), views),
    charts("wide", chart("runs", "Cycles of each result", `All layers and passes, captured steps after the trial.${boundNote(runs)}`, { runs })),
    shown.length > 1
      ? charts("wide", chart("runs_layers", "MERCURY cycles by layer and result", byLayerText(shown, alike), { layers: rows }))
      : null,
  ];
}

function sideBySideText(view) {
  const [ours, others] = [true, false].map((same) => DATA.views.filter((other) => isSameWork(view, other) === same));
  const sentences = [`The sections below show ${numberedName(view)}.`];
  if (others.length > 0) sentences.push(`${format.count(others.length)} of the ${format.count(DATA.views.length)} results cover another trace, another part of it or another number of steps, so their cycles and errors may not be comparable.`);
  if (hasUnlikeBaselines(ours.map((other) => other.summary))) sentences.push("Baselines differ, so speed-ups cannot be compared across arrays: compare MERCURY cycles instead.");
  return sentences.join(" ");
}

function byLayerText(shown, alike) {
  const which = shown.length < alike.length ? `The result shown below and ${shown.length - 1} more of ${alike.length}. ` : "";
  return `${which}All passes, captured steps after the trial.`;
}

function runColumns() {
  const read = (column) => (row) => row.summary[column];
  const markBound = (speed, { summary }) => speedUpText(speed, summary.is_bound);
  const equalMacs = { title: "speed-up at equal MACs", value: read("speed_up_equal_macs"), show: markBound };
  const interval = ({ summary }) => format.interval(summary.speed_up_low, summary.speed_up_high, format.times) ?? "-";
  return [
    { title: "results", value: numberedName, text: true, wraps: true, order: (row) => DATA.views.indexOf(row) },
    { title: "array", value: (row) => row.array, text: true },
    { title: "steps", value: read("steps"), show: format.count },
    { title: "hit rate (%)", value: read("hit_rate"), show: format.percent },
    { title: "output error (%)", value: read("output_error"), show: format.percent },
    { title: "gradient error (%)", value: read("gradient_error"), show: format.percent },
    { title: "baseline cycles", value: read("baseline_cycles"), show: format.count },
    { title: "MERCURY cycles", value: read("mercury_cycles"), show: format.count },
    { title: "speed-up", value: read("speed_up"), show: markBound },
    ...(DATA.views.some((view) => hasEqualMacs(view.summary)) ? [equalMacs] : []),
    { title: "95 % interval", value: interval, text: true, order: read("speed_up_low") },
    { title: "energy (% of baseline)", value: read("energy"), show: format.percent },
    { title: "model and data set", value: (row) => row.title, text: true },
    { title: "folder", value: (row) => row.folder, text: true },
  ];
}
