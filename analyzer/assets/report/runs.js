"use strict";

/** Results whose layers are drawn in one chart at most: as many as there are colours. */
const MOST_BY_LAYER = 6;

/** The captured steps that a view or a row of a configuration is summed over; a source has none of its own. */
function stepsOf(one) {
  return one.summary?.steps ?? one.steps;
}

/** Whether two views, or rows of configurations, are of the same steps of the same trace, so that cycles compare. */
function isSameWork(a, b) {
  const [first, second] = [stepsOf(a), stepsOf(b)];
  return a.trace === b.trace && a.part === b.part && (first === undefined || second === undefined || first === second);
}

/** Whether rows differ in their baselines: then each speed-up is relative to another. */
function hasUnlikeBaselines(rows) {
  return rows.some((row) => row.baseline_cycles !== rows[0].baseline_cycles);
}

/** Whether two views have the same layers and passes and as many steps, as those of one model have. */
function hasSameLayers(a, b) {
  const layers = (view) => view.layers.map((row) => `${row.layer} ${row.pass}`).join("\n");
  return a.models.length === b.models.length && layers(a) === layers(b);
}

/** A view's name with its number, by which charts that have no room for names tell results apart. */
function numberedName(view) {
  return `${DATA.views.indexOf(view) + 1}: ${view.name}`;
}

function hasSeveralResults() {
  return DATA.views.length > 1;
}

/** All results side by side; then, by layer, the results that have the layers of the one shown below. */
function sideBySide(view) {
  const views = DATA.views;
  const alike = views.filter((other) => hasSameLayers(view, other));
  const shown = [view, ...alike.filter((other) => other !== view)].slice(0, MOST_BY_LAYER);
  const runs = views.map((other, place) => ({ ...other.summary, name: numberedName(other), place }));
  const rows = shown.flatMap((other) => other.layers.map((row) => ({ ...row, name: numberedName(other) })));
  return [
    element("p", {}, sideBySideText(view)),
    sortableTable("A row for each of the results; a header sorts by its column", runColumns(), views),
    charts("wide", chart("runs", "Cycles of each result", "All layers and passes, captured steps after the trial.", { runs })),
    shown.length > 1
      ? charts("wide", chart("runs_layers", "MERCURY cycles by layer and result", byLayerText(shown, alike), { layers: rows }))
      : null,
  ];
}

function sideBySideText(view) {
  const [ours, others] = [true, false].map((same) => DATA.views.filter((other) => isSameWork(view, other) === same));
  const sentences = [`The sections below show ${numberedName(view)}.`];
  if (others.length > 0) sentences.push(`${format.count(others.length)} of the ${format.count(DATA.views.length)} results are of another trace, another part of it or another number of steps: their cycles and errors may be of other work.`);
  if (hasUnlikeBaselines(ours.map((other) => other.summary))) sentences.push("Baselines differ, and each speed-up is relative to its own: compare MERCURY cycles.");
  return sentences.join(" ");
}

function byLayerText(shown, alike) {
  const which = shown.length < alike.length ? `The result that is shown below and ${shown.length - 1} more of ${alike.length}. ` : "";
  return `${which}All passes, captured steps after the trial.`;
}

function runColumns() {
  const of = (column) => (row) => row.summary[column];
  const interval = ({ summary }) => format.interval(summary.speed_up_low, summary.speed_up_high, format.times) ?? "-";
  return [
    { title: "results", value: numberedName, text: true, wraps: true, order: (row) => DATA.views.indexOf(row) },
    { title: "array", value: (row) => row.array, text: true },
    { title: "steps", value: of("steps"), show: format.count },
    { title: "hit rate (%)", value: of("hit_rate"), show: format.percent },
    { title: "output error (%)", value: of("output_error"), show: format.percent },
    { title: "baseline cycles", value: of("baseline_cycles"), show: format.count },
    { title: "MERCURY cycles", value: of("mercury_cycles"), show: format.count },
    { title: "speed-up", value: of("speed_up"), show: format.times },
    { title: "95 % interval", value: interval, text: true, order: of("speed_up_low") },
    { title: "energy (% of baseline)", value: of("energy"), show: format.percent },
    { title: "model and data set", value: (row) => row.title, text: true },
    { title: "folder", value: (row) => row.folder, text: true },
  ];
}
