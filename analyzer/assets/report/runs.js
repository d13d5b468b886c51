"use strict";

/** Results whose layers are drawn in one chart at most: as many as there are colours. */
const MOST_BY_LAYER = 6;

/** Whether two views, or rows of configurations, are of the same part of the same trace, so that cycles compare. */
function isSameWork(a, b) {
  return a.trace === b.trace && a.part === b.part;
}

/** Whether rows differ in their baselines: then each speed-up is relative to another. */
function hasUnlikeBaselines(rows) {
  return rows.some((row) => row.baseline_cycles !== rows[0].baseline_cycles);
}

function hasSeveralResults() {
  return DATA.views.length > 1;
}

/** All results beside each other, then layer by layer those that compare with the one that is shown below. */
function sideBySide(view) {
  const views = DATA.views;
  const alike = views.filter((other) => isSameWork(view, other));
  const shown = [view, ...alike.filter((other) => other !== view)].slice(0, MOST_BY_LAYER);
  const runs = views.map((other, place) => ({ ...other.summary, name: other.name, place }));
  const rows = shown.flatMap((other) => other.layers.map((row) => ({ ...row, name: other.name })));
  return [
    element("p", {}, sideBySideText(view, alike)),
    sortableTable("A row for each of the results; a header sorts by its column", runColumns(), views),
    charts("wide", chart("runs", "Cycles of each result", "All layers, passes and captured steps.", { runs })),
    shown.length > 1
      ? charts("wide", chart("runs_layers", "MERCURY cycles by layer and result", byLayerText(shown, alike), { layers: rows }))
      : null,
  ];
}

function sideBySideText(view, alike) {
  const others = DATA.views.length - alike.length;
  const sentences = [`The sections below show ${view.name}.`];
  if (others > 0) sentences.push(`${format.count(others)} of the ${format.count(DATA.views.length)} results are of another trace or part of it: neither cycles nor errors compare with theirs.`);
  if (hasUnlikeBaselines(alike.map((other) => other.summary))) sentences.push("Baselines differ, and each speed-up is relative to its own: compare MERCURY cycles.");
  return sentences.join(" ");
}

function byLayerText(shown, alike) {
  const which = shown.length < alike.length ? `The result that is shown below and ${shown.length - 1} more of ${alike.length}. ` : "";
  return `${which}All passes and captured steps.`;
}

function runColumns() {
  const of = (column) => (row) => row.summary[column];
  const interval = ({ summary }) => format.interval(summary.speed_up_low, summary.speed_up_high, format.times) ?? "-";
  return [
    { title: "results", value: (row) => row.name, text: true, order: (row) => DATA.views.indexOf(row) },
    { title: "folder", value: (row) => row.folder, text: true },
    { title: "model and data set", value: (row) => row.title, text: true },
    { title: "array", value: (row) => row.array, text: true },
    { title: "hit rate (%)", value: of("hit_rate"), show: format.percent },
    { title: "output error (%)", value: of("output_error"), show: format.percent },
    { title: "baseline cycles", value: of("baseline_cycles"), show: format.count },
    { title: "MERCURY cycles", value: of("mercury_cycles"), show: format.count },
    { title: "speed-up", value: of("speed_up"), show: format.times },
    { title: "95 % interval", value: interval, text: true, order: of("speed_up_low") },
    { title: "energy (% of baseline)", value: of("energy"), show: format.percent },
  ];
}
