"use strict";

/** The sections of the page: title, a function that builds the content for a view, and a condition if the section is optional. */
const SECTIONS = [
  ["Verdict of the search", searchVerdicts, hasSearches],
  ["Answer", answer],
  ["Side by side", sideBySide, hasSeveralResults],
  ["Hit rate against output error", hitsAndErrors, hasSeveralErrors],
  ["Settings per layer", choices, hasSearches],
  ["Where the cycles go", cycles],
  ["Hit rates and output errors", outcomes],
  ["Signature length", lengths],
  ["Bounds on reuse", bounds],
  ["Over training", training],
  ["Array utilisation", utilisation],
  ["Energy", energy],
  ["Layers", layers],
  ["Configuration and command", configuration],
  ["Limitations", limits],
];

const PASSES = ["forward", "input-grad", "weight-grad"];

/** Figures in a grid: `width`, which is wide, half or narrow, decides how many fit side by side. */
function charts(width, ...figures) {
  return element("div", { class: `charts ${width}` }, ...figures);
}

function tile(name, number, ...details) {
  const lines = details.filter((line) => line !== null).map((line) => element("div", { class: "detail" }, line));
  return element("div", { class: "tile" }, element("dt", {}, name), element("dd", {}, element("div", { class: "number" }, number), ...lines));
}

/** The numbers that answer the question: how fast is training with reuse, and at which errors? */
function answer(view) {
  const { summary } = view;
  const { speed_up: speed, speed_up_low: low, speed_up_high: high } = summary;
  const seconds = (cycles) => `${format.short(cycles / (view.clock_mhz * 1e6))} s`;
  const interval = format.interval(low, high, format.times);
  const error = format.interval(summary.output_error_low, summary.output_error_high, format.percent);
  const sampled = summary.output_error_low !== summary.output_error_high ? `95 % interval ${error}` : null;
  const forward = view.layers.filter((row) => row.pass === "forward");
  const share = (name) => format.percent(ratio(summary[name], summary.vectors));
  const saved = (rows) => format.percent(ratio(sum(rows, "macs_saved_net"), sum(rows, "macs")));
  return [
    view.part === null ? null : element("p", { class: "note" }, `These results cover only a part of the trace: ${view.part}`),
    element("p", {}, `${stepsShown(summary)} ${hasSeveralResults() ? numberedName(view) : "this configuration"} runs at `, element("strong", {}, `${format.times(speed)} the baseline's speed${summary.is_bound ? " (a bound, no hardware)" : ""}`), `${speedUpDetails(summary)}${errorText(view)}.${layersOff(view)}`),
    nextStep(view),
    summary.is_bound ? element("p", {}, element("strong", {}, "A bound, no hardware: "), "in this configuration, HITs or signatures take less time than real processing elements need.") : null,
    element("dl", { class: "tiles" },
      tile(summary.is_bound ? "Speed-up (a bound, no hardware)" : "Speed-up", format.times(speed), interval ? `95 % interval ${interval}` : "no interval: one sample", `${seconds(summary.baseline_cycles)} to ${seconds(summary.mercury_cycles)} at ${view.clock_mhz} MHz`),
      hasEqualMacs(summary) ? tile("Speed-up at equal MACs", speedUpText(summary.speed_up_equal_macs, summary.is_bound), "the baseline's array gets the MACs of the unit for signatures as more columns") : null,
      tile("Speed-up with memory stalls", speedUpText(summary.speed_up_with_stalls, summary.is_bound), "includes waiting for DRAM"),
      tile("Hit rate, forward", format.percent(summary.hit_rate), `MAU ${share("mau")}, MNU ${share("mnu")}`, `of ${format.count(summary.vectors)} vectors`),
      tile("Output error, forward", format.percent(summary.output_error), summary.output_error === null ? noErrorText(view) : "|Y' - Y| / |Y|, each layer with exact inputs", summary.output_error === null ? null : sampled, mainCause(view, "forward")),
      summary.gradient_error === null ? null : tile("Gradient error", format.percent(summary.gradient_error), "all weight gradients together", mainCause(view, "weight-grad")),
      lossTile(summary),
      trialTile(summary),
      tile("Computations saved, net, forward", saved(forward), `${saved(view.layers)} over all passes`, "less what HITs and variants compute"),
      tile("Energy", format.percent(summary.energy), "of the baseline's"),
      mcacheTile(view),
    ),
  ];
}

/** The interval of the speed-up, and the speed-up over a baseline with as many multiply-accumulates, in brackets. */
function speedUpDetails(summary) {
  const interval = format.interval(summary.speed_up_low, summary.speed_up_high, format.times);
  const details = [interval === null ? "no interval: one captured sample" : `95 % interval over samples ${interval}`];
  if (interval !== null && summary.speed_up_low < 1 && summary.speed_up_high > 1) details.push("it may or may not be faster");
  if (hasEqualMacs(summary)) details.push(`${format.times(summary.speed_up_equal_macs)} at equal MACs`);
  return ` (${details.join("; ")})`;
}

/** Why there is no output error. */
function noErrorText(view) {
  return view.looked_up.some((row) => row.pass === "forward") ? "not computed" : "no forward pass reuses";
}

/** Whether no pass reuses in the steps of the report. */
function isOff(view) {
  return view.looked_up.length === 0;
}

/** The errors of a configuration, as the end of a sentence about its speed-up. */
function errorText(view) {
  const { output_error: output, gradient_error: gradient } = view.summary;
  if (isOff(view)) return ": no layer reuses";
  const errors = [["an output error", output], ["a gradient error", gradient]].filter(([, error]) => error !== null);
  if (errors.length === 0) {
    const local = view.layers.map((row) => row.output_error).filter((error) => error !== null);
    return local.length === 0 ? "; its errors were not computed, so its price is unknown" : `, with errors of up to ${format.percent(Math.max(...local))} in a layer`;
  }
  return `, with ${errors.map(([name, error]) => `${name} of ${format.percent(error)}`).join(" and ")}`;
}

/** What a replay does not show, and the command that goes on from here. */
function nextStep(view) {
  if (isOff(view)) return null;
  if (view.search !== null) {
    return element("p", {}, "These figures are of all captured steps. If settings were chosen by the same steps, they are flattered: the verdict of the search is the answer.");
  }
  return element("p", {}, "Whether training accepts such errors is not shown by a replay. To set an error and let each layer have the settings that pay within it: ", element("code", {}, "mercury-analyzer search TRACE --out SEARCH --bound 'layer-error<=0.1'"));
}

/** The MCACHE that the design needs. */
function mcacheTile({ summary }) {
  const { mcache_kb: size, mcache_results_mean: mean, mcache_results_peak: peak } = summary;
  const most = peak === null ? "without a limit" : `up to ${format.count(peak)}`;
  const results = !(mean > 0) ? "no results are delivered" : `delivers ${format.short(mean)} results per cycle on average, ${most}`;
  return tile("MCACHE needed", size === null ? "-" : `${format.count(size)}\u00a0KB`, size === null ? "no reuse, or an MCACHE without a limit" : "per bank", results);
}

/** The layer that causes most of a pass's squared error, as text; null if there is no error. */
function mainCause(view, pass) {
  const [cause] = listCauses(view, pass);
  return cause === undefined ? null : `${cause.layer} causes ${format.percent(cause.share)} of its square`;
}

/** Layers of a pass with their shares of its squared error, the largest first. */
function listCauses(view, pass) {
  const errors = sumErrors(view.layers);
  const rows = view.layers.filter((row) => row.pass === pass && errorShare(row, errors) > 0);
  return rows.map((row) => ({ layer: row.layer, share: errorShare(row, errors) })).sort((a, b) => b.share - a.share);
}

/** The estimated change of the loss, if the results have it. */
function lossTile(summary) {
  const { loss_change: change = null, loss_change_low: low, loss_change_high: high } = summary;
  if (change === null) return null;
  const interval = format.interval(low, high, format.signed);
  return tile("Change of the loss, forward", format.signed(change), interval === null ? "no interval: one sample" : `95 % interval ${interval}`, "nats, to first order, mean of steps");
}

/** The number of layers that are switched off, as a sentence; empty if there are none. */
function layersOff(view) {
  const all = new Set(view.layers.map((row) => row.layer));
  const off = new Set(view.layers.filter((row) => row.switched_off_at !== null).map((row) => row.layer));
  return off.size === 0 ? "" : ` ${format.count(off.size)} of ${format.count(all.size)} layers are switched off, as reuse cost cycles there.`;
}

/** The captured steps that the figures cover. */
function stepsShown(summary) {
  const steps = summary.steps === 1 ? "the captured step" : `the ${format.count(summary.steps)} captured steps`;
  return summary.trial_steps > 0 ? `Over ${steps} after the trial` : `Over ${steps}`;
}

/** The trial, if steps were captured after it. */
function trialTile(summary) {
  const { trial_steps: steps, trial_speed_up: speed, trial_hit_rate: rate, trial_output_error: error } = summary;
  if (steps === 0) return null;
  const rates = error === null ? `hit rate ${format.percent(rate)}` : `hit rate ${format.percent(rate)}, output error ${format.percent(error)}`;
  return tile("Speed-up in the trial", speedUpText(speed, summary.is_bound), rates, `${format.count(steps)} steps in which every layer reuses (stop.window)`);
}

function cycles(view) {
  const data = { layers: view.layers };
  const there = PASSES.filter((pass) => view.layers.some((row) => row.pass === pass));
  const share = (column) => format.percent(ratio(sum(view.layers, column), sum(view.layers, "mercury_cycles")));
  return [
    element("p", {}, `Shares of MERCURY's cycles: ${share("signature_cycles")} compute signatures, ${share("compute_cycles")} compute the products of vectors that did not hit (on a row-stationary array, this includes the cycles of HITs), ${share("stall_cycles")} wait for copies from MCACHE, gradient additions or buses, and ${share("extra_cycles")} serve variants and centroids.`),
    charts("wide", chart("cycles", "Cycles by layer", "Whole batches, all passes, the steps of this report.", data)),
    charts("narrow", ...there.map((pass) => chart("cycles_share", `Cycles by layer, ${pass}`, "As a share of the layer's baseline; below 100 % reuse saves cycles.", data, { passes: pass }))),
    charts("wide", chart("speed_up", "Speed-up by layer and pass", `Points right of the line are faster than the baseline.${boundNote(view.layers)}`, data)),
  ];
}

function outcomes(view) {
  const data = { layers: view.layers };
  const looked = ["forward", "input-grad"].filter((pass) => view.layers.some((row) => row.pass === pass));
  const measured = view.layers.some((row) => row.error_square !== null);
  return [
    element("p", {}, "HIT: the signature was in MCACHE, and the result is reused. MAU: the signature was not found and was inserted. MNU: it was not found, and its set was full. The weight gradient uses the outcomes of the forward pass. Layers that are switched off look up no vectors."),
    charts("half", ...looked.map((pass) => chart("outcomes", `Outcomes by layer, ${pass}`, "", data, { passes: pass }))),
    measured
      ? charts("wide", chart("errors", "Output error by layer and pass", "|Y' - Y| / |Y|: the difference between a pass's results with and without reuse, for exact inputs.", data))
      : element("p", { class: "note" }, isOff(view) ? "No layer reuses, so all results are exact." : "Output errors were not computed (--errors none). Replay with --errors sampled or all to see them."),
    ...(measured ? causes(view) : []),
  ];
}

/** Whether at least two configurations have an output error. */
function hasSeveralErrors() {
  return DATA.configurations.filter((row) => row.output_error !== null).length > 1;
}

/** Every configuration of all results by hit rate and output error. */
function hitsAndErrors() {
  const { configurations } = DATA;
  const all = sum(DATA.sources, "configurations");
  const left = configurations.length < all ? ` ${format.count(configurations.length)} of ${format.count(all)} configurations are drawn: a large sweep shows only its frontier.` : "";
  return [
    element("p", {}, "A hit rate says nothing without its error: signatures that are too short hit often and return wrong results."),
    charts("wide", chart("hits_errors", "All configurations of all results", `Forward pass; larger points are faster.${boundNote(configurations)}${left}`, { configurations })),
  ];
}

/** Maximum number of layers of a pass in the table of causes. */
const MOST_CAUSES = 3;

/** Which layers cause most of the error, what a local error cannot tell, and the command that measures it. */
function causes(view) {
  const rows = PASSES.map((pass) => ({ pass, found: listCauses(view, pass), rows: view.layers.filter((row) => row.pass === pass) })).filter(({ found }) => found.length > 0);
  const largest = ({ found }) => found.slice(0, MOST_CAUSES).map(({ layer, share }) => `${layer} ${format.percent(share)}`).join(", ");
  return [
    rows.length === 0 ? null : plainTable("Whose error it is", [
      ["pass", ({ pass }) => pass, { class: "text" }],
      ["error of all layers together (%)", (row) => format.percent(Math.sqrt(ratio(sum(row.rows, "error_square"), sum(row.rows, "exact_square"))))],
      ["largest shares of its square", largest, { class: "text free" }],
    ], rows),
    element("p", {}, "These errors are local: each layer is computed with exact inputs. They do not contain how errors add up through the network, or what they do to the norm of gradients. A probe measures both: it computes training steps again with reuse in every layer, without changing the training. Its loss_changes.parquet has the change of the loss, and the error, cosine and norm of the gradient."),
    element("p", {}, view.capture === null ? "The trace does not record the command that captured it. Complete this command with the flags of the training:" : "For this configuration and the captured steps:"),
    element("pre", { id: "probe" }, view.probe),
  ];
}

function lengths(view) {
  const configurations = DATA.configurations.filter((row) => isSameWork(view, row));
  // The designs of a search, and those with several lengths, have no place on an axis of lengths.
  const byLength = configurations.filter((row) => !row.searched && row["rpq.bits"] !== null);
  const found = new Set(byLength.map((row) => row["rpq.bits"]));
  if (found.size < 2) {
    return [element("p", { class: "note" }, "These results have one signature length. To compare several, run a sweep and add its folder to the report:"),
      element("pre", {}, "mercury-analyzer sweep TRACE --set rpq.bits=8..=64:4 --out sweep\nmercury-analyzer report RESULTS sweep --out report.html")];
  }
  const data = { configurations: byLength };
  return [
    element("p", {}, `${countConfigurations(view, configurations.length)} ${found.size} signature lengths.`),
    charts("half",
      chart("lengths", "Hit rate and output error", "Over the signature length, forward pass; one line per setting of the other keys.", data),
      configurations.some((row) => row.output_error !== null) ? frontier(configurations) : null,
    ),
  ];
}

/** Counts the configurations of this trace that were swept, searched and replayed, and those that are drawn. */
function countConfigurations(view, drawn) {
  const count = (kind) => sum(DATA.sources.filter((source) => isSameWork(view, source) && source.kind === kind), "configurations");
  const counts = ["swept", "searched", "replayed"].map((kind) => [kind, count(kind)]).filter(([, number]) => number > 0);
  const parts = counts.map(([kind, number]) => `${format.count(number)} ${kind}`).join(" and ");
  const all = counts.reduce((total, [, number]) => total + number, 0);
  const left = drawn < all ? ` Only ${format.count(drawn)} are drawn: a large sweep shows only its frontier.` : "";
  return `Configurations of this trace: ${parts}.${left}`;
}

function frontier(configurations) {
  const caption = "Filled points are on the frontier, labelled with their signature length: no other configuration is better in both." + boundNote(configurations);
  return hasUnlikeBaselines(configurations)
    ? chart("frontier_cycles", "MERCURY cycles over output error", `${caption} Baselines differ, so cycles are shown instead of speed-ups.`, { configurations })
    : chart("frontier", "Speed-up over output error", caption, { configurations });
}

function bounds(view) {
  if (view.bounds.length === 0) {
    const isMeasured = view.layers.some((row) => row.pass === "forward" && row.unlimited_hit !== null);
    if (isMeasured) return [element("p", { class: "note" }, "No vector was looked up in these steps: every layer is switched off.")];
    const why = view.sweep === null ? "Bounds were not computed. Replay with --with bounds to see them." : "Sweeps do not compute bounds. Replay this configuration with --with bounds to see them.";
    return [element("p", { class: "note" }, why)];
  }
  const reached = (bound) => format.percent(ratio(bound.mercury, bound.share));
  const share = ({ share, interval }) => (interval ? `${format.percent(share)} (${format.interval(...interval, format.percent)})` : format.percent(share));
  const data = { layers: view.looked_up };
  return [
    element("p", {}, "Upper bounds on the work that reuse can save, and the savings of other schemes, for the vectors that the forward pass looked up. Estimates have 95 % intervals. Of multiplications, MERCURY's savings are net: less what HITs and variants compute. Where MERCURY saves more than a bound, it reuses results for vectors that the bound does not count as similar."),
    plainTable("Bounds, forward pass", [
      ["bound", (bound) => bound.name, { class: "text" }],
      ["of", (bound) => bound.of, { class: "text" }],
      ["bound saves (%)", share],
      ["MERCURY saves (%)", (bound) => format.percent(bound.mercury)],
      ["MERCURY / bound (%)", reached],
    ], view.bounds),
    element("p", {}, `Share of all-zero vectors, looked up or not: ${zeroVectors(view)}. They hit under every configuration, so a high hit rate may only mean that an operand is sparse.`),
    charts("half",
      chart("bounds", "Vectors by layer", "Bars: hits of MERCURY; marks: bounds.", data),
      chart("multiplications", "Multiplications by layer", "Bars: saved by MERCURY, net; marks: competitors.", data),
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
  // The axis needs a positive length, even for one step.
  const [first, last] = [Math.min(...steps), Math.max(...steps)];
  const range = { first, last: Math.max(last, first + 1) };
  const data = { models: view.models, bits: view.models };
  return [
    losses ? null : element("p", { class: "note" }, "The results do not contain the training loss: add --trace TRACE to see it."),
    charts("half",
      chart("training_similarity", "Similarity", "Hit rate and output error, forward pass, by captured step.", data, range),
      chart("training_speed_up", "Speed-up", `With its 95 % interval over samples.${boundNote([view.summary])}`, data, range),
      chart("training_bits", "Signature length in force", "It grows when the loss stops improving.", data, range),
      losses ? chart("training_loss", "Training loss", "Dots: captured steps.", { losses }, range) : null,
    ),
  ];
}

function utilisation(view) {
  const busy = (macs, cycles) => format.percent(ratio(macs, view.elements * cycles));
  const total = (column) => sum(view.layers, column);
  const [base, with_reuse] = [busy(total("macs"), total("baseline_cycles")), busy(total("macs") - total("macs_saved_net"), total("mercury_cycles"))];
  return [
    element("p", {}, `Utilisation is the number of multiply-accumulates that the array performs, divided by processing elements (${format.count(view.elements)}) times cycles. With reuse, these are all multiply-accumulates less those saved, net: what HITs and variants compute counts as work. Signatures do not count as work, but their cycles count. Over the model: ${base} without reuse, ${with_reuse} with reuse.`),
    charts("wide", chart("utilisation", "Utilisation by layer", "All passes, the steps of this report.", { layers: view.layers }, { elements: view.elements })),
  ];
}

function energy(view) {
  const total = (column) => sum(view.layers, column);
  return [
    element("p", {}, `Energy is the number of accesses at each level times the cost of one access, from section energy of the configuration. A multiply-accumulate costs ${macCost(view)} there. MERCURY uses ${format.percent(ratio(total("mercury_energy"), total("baseline_energy")))} of the baseline's energy. Words from and to DRAM: ${format.short(total("baseline_dram_words") / 1e6)} million without reuse, ${format.short(total("mercury_dram_words") / 1e6)} million with reuse.`),
    charts("wide", chart("energy", "Energy by layer", "All passes, the steps of this report.", { layers: view.layers })),
  ];
}

function macCost(view) {
  return view.settings.find((setting) => setting.key === "energy.mac")?.value ?? "1";
}

function layers(view) {
  return [sortableTable("One row per layer and pass, over the steps of this report; click a header to sort by its column", layerColumns(view), view.layers)];
}

function configuration(view) {
  const changed = (setting) => (setting.preset === null ? "" : setting.preset === "" ? "not set" : setting.preset);
  return [
    element("p", {}, "TRACE is the folder of the trace, RESULTS the folder for the results. The trace is identified by the SHA-256 of its manifest.json."),
    element("p", {}, view.capture === null ? "The trace does not record the command that captured it." : "The trace was captured by:"),
    view.capture === null ? null : element("pre", { id: "capture" }, view.capture),
    element("p", {}, "This command reproduces the results from it:"),
    element("pre", { id: "command" }, view.command),
    fileNote(view),
    view.sweep === null ? null : element("p", {}, "The sweep that contains this configuration:"),
    view.sweep === null ? null : element("pre", {}, view.sweep),
    view.search_command === null ? null : element("p", {}, "The search that found this design:"),
    view.search_command === null ? null : element("pre", {}, view.search_command),
    plainTable("What was replayed", [["item", (fact) => fact[0], { class: "text" }], ["value", (fact) => fact[1], { class: "text free" }]], view.facts),
    element("details", {}, element("summary", {}, `All ${view.settings.length} settings, compared with preset ${view.preset}`),
      plainTable("Settings", [
        ["key", (setting) => setting.key, { class: "text" }],
        ["value", (setting) => setting.value, { class: "text free" }],
        [`preset ${view.preset}, where it differs`, changed, { class: "text free" }],
      ], view.settings)),
    layerSettings(view),
  ];
}

/** What the file in the commands is, if flags cannot give the configuration. */
function fileNote({ file }) {
  if (file === null) return null;
  const text = file === "CONFIG.toml" ? "CONFIG.toml stands for the configuration's file: flags cannot give its [[layer]] tables." : `${file} was written by the search: flags cannot give its [[layer]] tables.`;
  return element("p", { class: "note" }, text);
}

/** The settings of each layer, if they may differ. */
function layerSettings({ layer_settings: rows }) {
  if (rows.length === 0) return null;
  const text = (column) => [column, (row) => row[column], { class: "text" }];
  return element("details", {}, element("summary", {}, "Settings of each layer"),
    plainTable("Settings of layers, by passes that share signatures", [
      text("layer"),
      text("passes"),
      ["passes with reuse", (row) => row.reuse || "none", { class: "text" }],
      ["bits", (row) => format.count(row.bits)],
      ...["granularity", "variant", "projection", "representative", "scope"].map(text),
    ], rows));
}

function limits() {
  const points = [
    "Cycles are estimates for whole batches from the captured samples and channels. They exclude memory stalls unless stated otherwise. Where MCACHE lives longer than a sample (linear layers), hits among samples that were not captured are missing.",
    "Intervals cover the variation over samples of the same steps, not over other steps, seeds or models.",
    "Output errors are measured in each layer separately, with exact inputs, on the captured channels and filters. They do not show how errors accumulate over layers and over training.",
    "A layer is switched off only after captured steps in which reuse cost cycles. The totals leave out the first captured steps, the trial, if steps were captured after it.",
    "Stalls and energy are modelled, not measured.",
    ...(hasSearches() ? ["A search chooses and judges settings by captured steps of one training run. Other steps, seeds and data are not judged."] : []),
  ];
  return [element("ul", {}, ...points.map((point) => element("li", {}, point)))];
}
