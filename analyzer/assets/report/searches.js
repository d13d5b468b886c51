"use strict";

/** The speed-up that the paper's abstract reports, a mean over twelve models. */
const PAPER = 1.97;
/** Maximum number of readings in the chart of a search: the number of colours. */
const MOST_READINGS = 6;

function hasSearches() {
  return DATA.searches.length > 0;
}

function isJudged(search) {
  return search.judged_by !== "nothing";
}

/** The name of a reading of the hardware, with a mark if no hardware reaches its cycles. */
function readingName({ name, is_bound: isBound }) {
  return isBound ? `${name} (no hardware)` : name;
}

/** The speed-up over a baseline with as many MACs; null for readings without a unit for signatures. */
function speedUpAtEqualMacs(row) {
  return hasEqualMacs(row) ? row.speed_up_equal_macs : null;
}

/** Whether a bound limits the error of each layer, so that errors are compared with it. */
function boundsLayers(search) {
  return search.bounds.some((bound) => bound.startsWith("layer-error"));
}

/** Whether `summedValues` leaves a bound out: other sentences have its values. */
function hasOwnSentence(bound) {
  return bound.startsWith("layer-error") || bound.startsWith("accuracy-loss");
}

/** The accuracy loss that the calibration predicts for a row of the frontier, as a sentence. */
function lossText({ step_error: error, accuracy_loss: loss, accuracy_loss_upper: upper }) {
  if (loss === null) return ` No accuracy loss is predicted: the calibration ends below the step error of ${format.percent(error)}.`;
  return ` The predicted accuracy loss is ${format.points(loss)} points (at most ${format.points(upper)}).`;
}

/** Where predicted accuracy losses come from. */
function calibrationText({ networks }) {
  return `Accuracy losses are predicted from the step error by a calibration on few networks (${networks ?? "not named in its file"}); other networks may differ.`;
}

/** What all searches found, each with its readings and its frontier. */
function searchVerdicts() {
  return DATA.searches.flatMap((search) => [
    DATA.searches.length > 1 ? element("h3", {}, `${search.name} (${search.title})`) : null,
    search.part === null ? null : element("p", { class: "note" }, `These results cover only a part of the trace: ${search.part}`),
    element("p", { class: "verdict" }, ...verdictText(search)),
    element("p", {}, configuredText(search)),
    ...judgedText(search),
    plainTable(`Readings of the hardware within ${search.bounds.join(", ")}, the recommended one first`, readingColumns(search), search.readings),
    charts("wide", searchFrontier(search)),
    element("p", { class: "note" }, calibrationText(search)),
    element("p", {}, "Errors are local: each layer is computed with exact inputs. Whether training accepts them is not shown by a search. A run with reuse in every layer shows it:"),
    element("pre", {}, `mercury-tracer train … --reuse ${search.design}`),
  ]);
}

/** What bounds on sums limit, as a sentence for each. */
function summedValues(search, values) {
  const value = (bound, number) => (bound.startsWith("loss-change") ? `${number.toPrecision(3)} nats` : format.percent(number));
  const texts = search.bounds.map((bound, place) => (hasOwnSentence(bound) || values[place] === undefined || values[place] === null ? "" : ` ${bound.split(" ")[0]} is ${value(bound, values[place])}${isJudged(search) ? " where judged" : ""}.`));
  return texts.join("");
}

/** The speed-up within the bounds, in a sentence or two. */
function verdictText(search) {
  const [best] = search.readings;
  const { per_layer: row } = best;
  const bounds = search.bounds.join(", ");
  const on = search.choices.filter((choice) => choice.reuse).length;
  if (row.passes === 0) return [`Within ${bounds}, no layer's reuse saves ${search.objective} on ${search.model} under ${best.name}: `, element("strong", {}, "1.00x"), "."];
  const interval = format.interval(row.speed_up_low, row.speed_up_high, format.times);
  const details = [interval ? `95 % interval ${interval}` : "no interval: one sample"];
  const equal = speedUpAtEqualMacs(row);
  if (equal !== null) details.push(`${format.times(equal)} if the baseline gets the MACs of the unit for signatures`);
  const exceeding = boundsLayers(search) ? ` ${format.count(row.exceeding)} of ${format.count(row.passes)} ${isJudged(search) ? "judged errors" : "errors"} exceed the bound.` : "";
  return [
    `Within ${bounds}, settings per layer give ${search.model} `,
    element("strong", {}, `${format.times(row.speed_up)} the baseline's speed${best.is_bound ? " (a bound, no hardware)" : ""}`),
    ` under ${best.name} (${details.join("; ")}), at an output error of ${format.percent(row.output_error)} and a gradient error of ${format.percent(row.gradient_error)}.${exceeding} The largest error of a layer's pass is ${format.percent(row.largest_error)}.${summedValues(search, best.bound_values)}${lossText(row)} The design reuses in ${format.count(on)} of ${format.count(search.choices.length)} passes.`,
  ];
}

/** What the recommended reading gives as it is configured, and with one setting for all layers that reuse. */
function configuredText(search) {
  const [{ name, configured, one_setting: one }] = search.readings;
  const asConfigured = configured.passes === 0
    ? `As configured, ${name} saves cycles in no layer.`
    : `As configured, ${name} gives ${format.times(configured.speed_up)} at an output error of ${format.percent(configured.output_error)}, with errors of up to ${format.percent(configured.largest_error)} in a layer.`;
  const oneSetting = one.passes === 0
    ? "No single setting saves cycles within the bound in any layer."
    : `The best single setting, on in the layers where it is within the bound, gives ${format.times(one.speed_up)} at an output error of ${format.percent(one.output_error)}.`;
  return `${asConfigured} ${oneSetting}`;
}

/** Whether the figures are judged, and what their intervals cover. */
function judgedText(search) {
  const seeds = search.seeds === 1
    ? "Intervals cover captured samples, not the draw of the projection."
    : `Figures are means over ${format.count(search.seeds)} projections; intervals cover samples and projections.`;
  if (isJudged(search)) {
    const by = `Judged by ${search.judged_by}: settings were chosen without the captured ${search.judged_by} that judge them (${format.count(search.folds)} folds).`;
    return [element("p", { class: "note" }, `${by} ${seeds}`)];
  }
  const warning = element("strong", {}, "Nothing is judged (--folds 0):");
  return [element("p", {}, warning, ` the figures are of the data that the settings were chosen by, which flatters them. ${seeds}`)];
}

function readingColumns(search) {
  const times = (method, column) => (reading) => format.times(reading[method][column]);
  const percent = (method, column) => (reading) => format.percent(reading[method][column]);
  // Long titles wrap, so that the table fits a wide window.
  const wraps = { class: "wraps" };
  const interval = ({ per_layer: row }) => format.interval(row.speed_up_low, row.speed_up_high, format.times) ?? "-";
  const exceeding = ({ per_layer: row }) => `${format.count(row.exceeding)} of ${format.count(row.passes)}`;
  const hasUnit = search.readings.some((reading) => hasEqualMacs(reading.per_layer));
  return [
    ["reading", readingName, { class: "text" }],
    ["speed\u2011up, settings per layer", times("per_layer", "speed_up"), wraps],
    ["95 % interval", interval],
    ...(hasUnit ? [["at equal MACs", (reading) => format.times(speedUpAtEqualMacs(reading.per_layer)), wraps]] : []),
    ["output error", percent("per_layer", "output_error"), wraps],
    ["gradient error", percent("per_layer", "gradient_error"), wraps],
    ["largest error", percent("per_layer", "largest_error"), wraps],
    ...(boundsLayers(search) ? [[isJudged(search) ? "judged errors over the bound" : "errors over the bound", exceeding, wraps]] : []),
    ["one setting", times("one_setting", "speed_up"), wraps],
    ["as configured", times("configured", "speed_up"), wraps],
    ["its output error", percent("configured", "output_error"), wraps],
    ["its largest error", percent("configured", "largest_error"), wraps],
  ];
}

/** The speed-up over the limit of the first bound. */
function searchFrontier(search) {
  const shown = search.readings.slice(0, MOST_READINGS);
  const most = Math.max(...search.frontier.map((row) => row.limit ?? 0));
  const all = shown.flatMap((reading) => search.frontier
    .filter((row) => row.reading === reading.name)
    .map((row) => ({ ...row, name: readingName(reading), at: row.limit ?? configuredLimit(search, row) })));
  const unit = { "loss-change": "nats", "accuracy-loss": "points" }[search.bound] ?? "%";
  const limitText = (at) => (unit === "points" ? `${format.points(at)} points` : format.percent(at));
  // An error far above all limits would compress the chart.
  const rows = all.filter((row) => row.at !== null && row.at <= most);
  const beyond = all.filter((row) => row.at > most).map((row) => `${row.name} ${format.times(row.speed_up)} at ${limitText(row.at)}`);
  const left = shown.length < search.readings.length ? ` ${shown.length} of ${search.readings.length} readings are drawn.` : "";
  const judged = isJudged(search) ? "Judged speed-up" : "Speed-up on the data that settings were chosen by";
  const diamonds = rows.some((row) => row.method === "configured") ? " Diamonds: as configured, at the error that this causes." : "";
  const outside = beyond.length > 0 ? ` As configured, beyond the chart: ${beyond.join(", ")}.` : "";
  const caption = `${judged}, over the limit of ${search.bound}. Solid: settings per layer, with 95 % intervals; dashed: one setting for all layers that reuse.${diamonds}${outside}${left}`;
  return chart("search_frontier", `Speed-up by accepted error, ${search.name}`, caption, { frontier: rows }, { asked: search.limit, paper: PAPER, unit });
}

/** The error of a configuration that has no bound, if it is known: the limit within which it would be. */
function configuredLimit(search, row) {
  const errors = {
    "layer-error": row.largest_error,
    "step-error": row.step_error,
    "gradient-error": row.gradient_error,
    "accuracy-loss": row.accuracy_loss_upper,
  };
  return row.passes > 0 ? errors[search.bound] ?? null : null;
}

/** The settings that the search of these results chose for each layer. */
function choices(view) {
  const ours = DATA.searches.filter((search, place) => (view.search === null ? search.trace === view.trace : place === view.search));
  if (ours.length === 0) return [element("p", { class: "note" }, "No search of this trace is in the report.")];
  return ours.flatMap(choicesOf);
}

function choicesOf(search) {
  const rows = search.choices.map((row) => ({ ...row, setting: settingText(row) }));
  const [on, off] = [true, false].map((reuses) => rows.filter((row) => row.reuse === reuses));
  const settings = new Set(on.map((row) => row.setting));
  return [
    element("p", {}, `${search.name}, reading ${search.readings[0].name}: ${format.count(on.length)} of ${format.count(rows.length)} passes reuse, with ${format.count(settings.size)} ${settings.size === 1 ? "setting" : "different settings"}. Figures are of all captured steps, by which these settings were chosen.`),
    on.length === 0 ? null : charts("wide", chart("choices", `Cycles saved by layer, ${search.name}`, "Settings per layer; layers without reuse are left out.", { choices: rows })),
    on.length === 0 ? null : sortableTable("Passes with reuse; click a header to sort by its column", choiceColumns(search), on),
    off.length === 0 ? null : element("details", {}, element("summary", {}, `Passes without reuse: ${format.count(off.length)}`), sortableTable("Passes without reuse", choiceColumns(search), off)),
  ];
}

/** A setting in a few words: what is usual is left out. */
function settingText(row) {
  if (!row.reuse) return "off";
  const usual = { granularity: "channel-patch", projection: "gaussian", representative: "first" };
  const unusual = Object.keys(usual).filter((key) => row[key] !== usual[key]).map((key) => row[key]);
  const scope = row.scope === "channel" ? [] : [`scope ${row.scope}`];
  return [row.variant, `${row.signature_bits} bits`, ...unusual, ...scope].join(", ");
}

function choiceColumns(search) {
  const ifOn = (show) => (value, row) => (row.reuse ? show(value) : "-");
  const read = (column) => (row) => row[column];
  const folds = ({ folds, folds_exceeding: exceeding }) => (folds === 0 ? "-" : `${exceeding} of ${folds}`);
  return [
    { title: "layer", value: read("layer"), text: true, order: read("layer_index") },
    { title: "pass", value: read("pass"), text: true, order: (row) => PASSES.indexOf(row.pass) },
    { title: "setting", value: read("setting"), text: true },
    { title: "hit rate (%)", value: read("hit_rate"), show: ifOn(format.percent) },
    { title: "error (%)", value: read("output_error"), show: ifOn(format.percent) },
    { title: "share of the pass's error (%)", value: read("error_share"), show: ifOn(format.percent) },
    { title: "speed-up", value: read("speed_up"), show: format.times },
    ...(isJudged(search) && boundsLayers(search) ? [{ title: "folds over the bound", value: folds, text: true, order: read("folds_exceeding") }] : []),
    { title: "baseline cycles", value: read("baseline_cycles"), show: format.count },
    { title: "MERCURY cycles", value: read("mercury_cycles"), show: format.count },
  ];
}
