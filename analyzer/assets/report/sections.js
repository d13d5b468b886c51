"use strict";

/** The sections of the page: title, what is in it for a view, and whether the page has it, if that depends. */
const SECTIONS = [
  ["Answer", answer],
  ["Side by side", sideBySide, hasSeveralResults],
  ["Where the cycles go", cycles],
  ["Hits and what they cost", outcomes],
  ["Signature length", lengths],
  ["How close to each bound", bounds],
  ["Over training", training],
  ["Array utilisation", utilisation],
  ["Energy", energy],
  ["Layers", layers],
  ["Configuration and command", configuration],
  ["What to keep in mind", limits],
];

const PASSES = ["forward", "input-grad", "weight-grad"];

/** Figures side by side as far as there is room: `width` is wide, half or narrow. */
function charts(width, ...figures) {
  return element("div", { class: `charts ${width}` }, ...figures);
}

function tile(name, number, ...beside) {
  const lines = beside.filter((line) => line !== null).map((line) => element("div", { class: "beside" }, line));
  return element("div", { class: "tile" }, element("dt", {}, name), element("dd", {}, element("div", { class: "number" }, number), ...lines));
}

/** The numbers that the question is about. */
function answer(view) {
  const { summary } = view;
  const { speed_up: speed, speed_up_low: low, speed_up_high: high } = summary;
  const said = verdict(speed, low, high);
  const seconds = (cycles) => `${format.short(cycles / (view.clock_mhz * 1e6))} s`;
  const interval = format.interval(low, high, format.times);
  const error = format.interval(summary.output_error_low, summary.output_error_high, format.percent);
  const sampled = summary.output_error_low !== summary.output_error_high ? `95 % interval ${error}` : null;
  const forward = view.layers.filter((row) => row.pass === "forward");
  const share = (name) => format.percent(ratio(summary[name], summary.vectors));
  return [
    view.part === null ? null : element("p", { class: "note" }, `Of a part of the trace alone: ${view.part}`),
    element("p", {}, `${stepsShown(summary)} reuse ${said}: `, element("strong", {}, `${format.times(speed)} the baseline's speed`), `${summary.output_error === null ? "" : ` at an output error of ${format.percent(summary.output_error)}`}${interval ? `, 95 % interval of the speed-up over samples ${interval}.` : "; one captured sample has no interval."}${layersOff(view)}`),
    element("dl", { class: "tiles" },
      tile("Speed-up", format.times(speed), interval ? `95 % interval ${interval}` : "no interval: one sample", `${seconds(summary.baseline_cycles)} to ${seconds(summary.mercury_cycles)} at ${view.clock_mhz} MHz`),
      tile("Speed-up with memory stalls", format.times(summary.speed_up_with_stalls), "the array waits for DRAM, too"),
      tile("Hit rate, forward", format.percent(summary.hit_rate), `MAU ${share("mau")}, MNU ${share("mnu")}`, `of ${format.count(summary.vectors)} vectors`),
      tile("Output error, forward", format.percent(summary.output_error), summary.output_error === null ? "not computed" : "|Y' - Y| / |Y| of each layer by itself", summary.output_error === null ? null : sampled),
      lossTile(summary),
      trialTile(summary),
      tile("Computations spared, forward", format.percent(ratio(sum(forward, "macs_skipped"), sum(forward, "macs"))), `${format.percent(ratio(sum(view.layers, "macs_skipped"), sum(view.layers, "macs")))} over all passes`),
      tile("Energy", format.percent(summary.energy), "of the baseline's"),
    ),
  ];
}

/** What reuse in all layers makes of the loss, where the results have it. */
function lossTile(summary) {
  const { loss_change: change = null, loss_change_low: low, loss_change_high: high } = summary;
  if (change === null) return null;
  const interval = format.interval(low, high, format.signed);
  return tile("Change of the loss, forward", format.signed(change), interval === null ? "no interval: one sample" : `95 % interval ${interval}`, "nats, to first order, mean of steps");
}

/** The speed-up in words. */
function verdict(speed, low, high) {
  if (format.times(speed) === "1.00x") return "changes little";
  if (low === null) return speed > 1 ? "is faster" : "is slower";
  if (low > 1) return "is faster";
  return high < 1 ? "is slower" : "may or may not be faster";
}

/** How many layers run without reuse in these steps, in words; nothing where all reuse. */
function layersOff(view) {
  const all = new Set(view.layers.map((row) => row.layer));
  const off = new Set(view.layers.filter((row) => row.switched_off_at !== null).map((row) => row.layer));
  return off.size === 0 ? "" : ` ${format.count(off.size)} of ${format.count(all.size)} layers are switched off, as reuse cost cycles there.`;
}

/** Which captured steps the figures are of. */
function stepsShown(summary) {
  const steps = summary.steps === 1 ? "the captured step" : `the ${format.count(summary.steps)} captured steps`;
  return summary.trial_steps > 0 ? `Over ${steps} after the trial` : `Over ${steps}`;
}

/** The steps before any layer could be switched off, where others came after them. */
function trialTile(summary) {
  const { trial_steps: steps, trial_speed_up: speed, trial_hit_rate: rate, trial_output_error: error } = summary;
  if (steps === 0) return null;
  const said = error === null ? `hit rate ${format.percent(rate)}` : `hit rate ${format.percent(rate)}, output error ${format.percent(error)}`;
  return tile("Speed-up in the trial", format.times(speed), said, `${format.count(steps)} steps in which every layer reuses (stop.window)`);
}

function cycles(view) {
  const data = { layers: view.layers };
  const there = PASSES.filter((pass) => view.layers.some((row) => row.pass === pass));
  const share = (column) => format.percent(ratio(sum(view.layers, column), sum(view.layers, "mercury_cycles")));
  return [
    element("p", {}, `Of MERCURY's cycles ${share("signature_cycles")} are signatures, ${share("compute_cycles")} products of vectors that did not hit (with the cycles of HITs on a row-stationary array), ${share("stall_cycles")} waiting for MCACHE to deliver copies, for gradients to be added or for buses, ${share("extra_cycles")} variants and centroids.`),
    charts("wide", chart("cycles", "Cycles by layer", "Whole batches, all passes and these steps.", data)),
    charts("narrow", ...there.map((pass) => chart("cycles_share", `Cycles by layer, ${pass}`, "As a share of the layer's baseline: left of 100 % is gained.", data, { passes: pass }))),
    charts("wide", chart("speed_up", "Speed-up by layer and pass", "Right of the line is faster than the baseline.", data)),
  ];
}

function outcomes(view) {
  const data = { layers: view.layers };
  const looked = ["forward", "input-grad"].filter((pass) => view.layers.some((row) => row.pass === pass));
  const measured = view.layers.some((row) => row.error_square !== null);
  return [
    element("p", {}, "HIT: the signature was in MCACHE and the result is reused. MAU: it was not and was inserted. MNU: it was not, and its set was full. The weight gradient keeps the forward pass's outcomes. Layers that were switched off look nothing up from then on."),
    charts("half", ...looked.map((pass) => chart("outcomes", `Outcomes by layer, ${pass}`, "", data, { passes: pass }))),
    measured
      ? charts("wide", chart("errors", "Output error by layer and pass", "How far the pass's result with reuse is from the exact one, for exact inputs.", data))
      : element("p", { class: "note" }, "Output errors were not computed. Replay without --without errors to see what the hits cost."),
  ];
}

function lengths(view) {
  const configurations = DATA.configurations.filter((row) => isSameWork(view, row));
  const found = new Set(configurations.map((row) => row["rpq.bits"]));
  if (found.size < 2) {
    return [element("p", { class: "note" }, "These results have one signature length. To see hit rate and error over it, sweep and add the sweep's folder to the report:"),
      element("pre", {}, "mercury-analyzer sweep TRACE --set rpq.bits=8..=64:4 --out sweep\nmercury-analyzer report RESULTS sweep --out report.html")];
  }
  const data = { configurations };
  return [
    element("p", {}, `${countConfigurations(view, configurations.length)} ${found.size} signature lengths.`),
    charts("half",
      chart("lengths", "Hit rate beside output error", "Over the signature length, forward pass; a line for each setting of other keys.", data),
      configurations.some((row) => row.output_error !== null) ? frontier(configurations) : null,
    ),
  ];
}

/** How many configurations of this trace were swept, how many replayed by themselves, and how many of them are drawn. */
function countConfigurations(view, drawn) {
  const count = (swept) => sum(DATA.sources.filter((source) => isSameWork(view, source) && source.swept === swept), "configurations");
  const counts = [["swept", count(true)], ["replayed", count(false)]].filter(([, number]) => number > 0);
  const said = counts.map(([how, number]) => `${format.count(number)} ${how}`).join(" and ");
  const all = counts.reduce((total, [, number]) => total + number, 0);
  const left = drawn < all ? ` Only ${format.count(drawn)} are drawn: of a large sweep, those on its frontier.` : "";
  return `Configurations of this trace: ${said}.${left}`;
}

function frontier(configurations) {
  const caption = "Filled: beaten by no other in both; the number is the signature length.";
  return hasUnlikeBaselines(configurations)
    ? chart("frontier_cycles", "MERCURY cycles over output error", `${caption} Baselines differ, so cycles stand in place of speed-ups.`, { configurations })
    : chart("frontier", "Speed-up over output error", caption, { configurations });
}

function bounds(view) {
  if (view.bounds.length === 0) {
    const isMeasured = view.layers.some((row) => row.pass === "forward" && row.unlimited_hit !== null);
    if (isMeasured) return [element("p", { class: "note" }, "No vector was looked up in these steps, as every layer is switched off.")];
    const why = view.sweep === null ? "Bounds were left out of this replay (--without bounds)." : "A sweep leaves bounds out; replay this configuration to see them.";
    return [element("p", { class: "note" }, why)];
  }
  const reached = (bound) => format.percent(ratio(bound.mercury, bound.share));
  const share = ({ share, interval }) => (interval ? `${format.percent(share)} (${format.interval(...interval, format.percent)})` : format.percent(share));
  const data = { layers: view.looked_up };
  return [
    element("p", {}, "What reuse could spare at best, and what other schemes would, on the same vectors: those that the forward pass looked up. An estimate has its 95 % interval. Where MERCURY spares more than a bound, it reuses results of vectors that the bound would not."),
    plainTable("Bounds, forward pass", [
      ["bound", (bound) => bound.name, { class: "text" }],
      ["of", (bound) => bound.of, { class: "text" }],
      ["it spares (%)", share],
      ["MERCURY spares (%)", (bound) => format.percent(bound.mercury)],
      ["MERCURY's share of it (%)", reached],
    ], view.bounds),
    element("p", {}, `Vectors that are all zero, looked up or not: ${zeroVectors(view)}. They hit whatever the scheme, so a high hit rate may say no more than that an operand is sparse.`),
    charts("half",
      chart("bounds", "Vectors by layer", "Bars: MERCURY's hits; marks: bounds.", data),
      chart("multiplications", "Multiplications by layer", "Bars: spared by MERCURY; marks: competitors.", data),
    ),
  ];
}

/** The share of all-zero vectors of each pass. */
function zeroVectors(view) {
  const shares = PASSES.map((pass) => [pass, view.layers.filter((row) => row.pass === pass && row.zero_vector !== null)])
    .filter(([, rows]) => rows.length > 0)
    .map(([pass, rows]) => `${pass} ${format.percent(ratio(sum(rows, "zero_vector"), sum(rows, "vectors")))}`);
  return shares.join(", ");
}

function training(view) {
  const losses = DATA.losses[view.trace] ?? null;
  const steps = (losses ?? view.models).map((row) => row.step);
  // One step alone still needs an axis.
  const [first, last] = [Math.min(...steps), Math.max(...steps)];
  const range = { first, last: Math.max(last, first + 1) };
  const data = { models: view.models, bits: view.models };
  return [
    losses ? null : element("p", { class: "note" }, "Results do not hold the loss of every step: name the trace by --trace to see it."),
    charts("half",
      chart("training_similarity", "Similarity", "Hit rate and output error, forward pass, by captured step.", data, range),
      chart("training_speed_up", "Speed-up", "With the 95 % interval over samples.", data, range),
      chart("training_bits", "Signature length in force", "It grows where the loss stands still.", data, range),
      losses ? chart("training_loss", "Training loss", "Dots: captured steps.", { losses }, range) : null,
    ),
  ];
}

function utilisation(view) {
  const busy = (macs, cycles) => format.percent(ratio(macs, view.elements * cycles));
  const total = (column) => sum(view.layers, column);
  const [base, with_reuse] = [busy(total("macs"), total("baseline_cycles")), busy(total("macs") - total("macs_skipped"), total("mercury_cycles"))];
  return [
    element("p", {}, `Multiply-accumulates that are computed, divided by processing elements (${format.count(view.elements)}) times cycles. Those that hits spare count neither as work nor, but for the cycles that are left, as time; signatures take time and are no part of the work. Over the model: ${base} without reuse, ${with_reuse} with it.`),
    charts("wide", chart("utilisation", "Utilisation by layer", "All passes and these steps.", { layers: view.layers }, { elements: view.elements })),
  ];
}

function energy(view) {
  const total = (column) => sum(view.layers, column);
  return [
    element("p", {}, `Accesses at each level times what one costs by the configuration's section energy, in which a multiply-accumulate costs ${costOfMac(view)}: ${format.percent(ratio(total("mercury_energy"), total("baseline_energy")))} of the baseline's. Words from and to DRAM: ${format.short(total("baseline_dram_words") / 1e6)} million without reuse, ${format.short(total("mercury_dram_words") / 1e6)} million with it.`),
    charts("wide", chart("energy", "Energy by layer", "All passes and these steps.", { layers: view.layers })),
  ];
}

function costOfMac(view) {
  return view.settings.find((setting) => setting.key === "energy.mac")?.value ?? "1";
}

function layers(view) {
  return [sortableTable("A row for each layer and pass, over these steps; a header sorts by its column", layerColumns(view), view.layers)];
}

function configuration(view) {
  const changed = (setting) => (setting.preset === null ? "" : setting.preset === "" ? "not set" : setting.preset);
  return [
    element("p", {}, "TRACE stands for the trace's folder, RESULTS for one to write to. The trace is known by the SHA-256 of its manifest.json."),
    element("p", {}, view.capture === null ? "The trace does not say which command captured it." : "The trace was captured by:"),
    view.capture === null ? null : element("pre", { id: "capture" }, view.capture),
    element("p", {}, "These results are made from it by:"),
    element("pre", { id: "command" }, view.command),
    view.sweep === null ? null : element("p", {}, "The sweep that it is from:"),
    view.sweep === null ? null : element("pre", {}, view.sweep),
    plainTable("What was replayed", [["item", (fact) => fact[0], { class: "text" }], ["value", (fact) => fact[1], { class: "text free" }]], view.facts),
    element("details", {}, element("summary", {}, `All ${view.settings.length} settings, beside preset ${view.preset}`),
      plainTable("Settings", [
        ["key", (setting) => setting.key, { class: "text" }],
        ["value", (setting) => setting.value, { class: "text free" }],
        [`preset ${view.preset}, where it differs`, changed, { class: "text free" }],
      ], view.settings)),
  ];
}

function limits() {
  const points = [
    "Cycles are those of whole batches, without memory stalls but where they are named; captured samples and channels stand for the others. Where MCACHE lives longer than a sample (linear layers), hits among samples that were not captured are missing.",
    "Intervals say how the speed-up would vary with other samples of the same steps, not with other steps, seeds or models.",
    "Output errors are of each layer by itself, with exact inputs, from the captured channels and filters; how they add up over layers and over training is not in them.",
    "A layer is switched off only after captured steps in which reuse cost cycles. The first of them, the trial, are left out of the totals where steps were captured after it.",
    "Stalls and energy are a model's, not measurements.",
  ];
  return [element("ul", {}, ...points.map((point) => element("li", {}, point)))];
}
