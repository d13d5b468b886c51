"use strict";

const SPECIFICATIONS = JSON.parse(document.getElementById("charts").textContent);

/** The charts on the page: name of the specification, place, data and parameters. */
let drawn = [];

/**
 * A figure with a chart. `data` maps the data set names of the specification to rows, `parameters` the names of its
 * parameters to values.
 */
function chart(name, title, caption, data, parameters = {}) {
  const place = element("div", { class: "chart", "data-chart": name });
  drawn.push({ name, place, data, parameters, title });
  const frame = element("div", { class: "frame" }, place);
  return element("figure", {}, element("figcaption", {}, element("strong", {}, title), caption ? `. ${caption}` : ""), frame);
}

/** Draws all charts on the page, in its current colours. */
async function draw() {
  await Promise.all(drawn.map(drawOne));
}

async function drawOne({ name, place, data, parameters, title }) {
  const specification = structuredClone(SPECIFICATIONS[name]);
  for (const parameter of specification.params ?? []) {
    if (parameter.name in parameters) parameter.value = parameters[parameter.name];
  }
  specification.datasets = data;
  const options = {
    mode: "vega-lite",
    logger: logger(),
    renderer: "svg",
    // Expressions are interpreted, because the page's content security policy forbids eval.
    ast: true,
    actions: { export: true, source: false, compiled: false, editor: false },
    downloadFileName: `${name}-${title}`.replaceAll(/[^A-Za-z0-9]+/g, "-"),
    config: theme(place.clientWidth),
  };
  await vegaEmbed(place, specification, options);
  const frame = place.parentElement;
  if (frame.scrollHeight > frame.clientHeight) {
    // Only an element that can have the focus scrolls by keyboard.
    for (const [key, value] of [["tabindex", "0"], ["role", "region"], ["aria-label", title]]) frame.setAttribute(key, value);
  }
}

/** Vega's logger without the warning that a tall chart does not fit its frame: the frame scrolls. */
function logger() {
  const made = vega.logger(vega.Warn);
  const { warn } = made;
  made.warn = (...message) => (String(message[0]).startsWith('Dropping "fit-y"') ? made : warn.apply(made, message));
  return made;
}

/** The page's colours, and the space for names at this width in pixels. */
function theme(width) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const names = Math.max(80, width / 4);
  const columns = Math.max(1, Math.floor((width - 40) / 145));
  const [text, muted, line] = ["--text", "--muted", "--line"].map(colour);
  return {
    background: "transparent",
    font: "system-ui, sans-serif",
    view: { stroke: null },
    text: { color: text, fontSize: 11 },
    axis: {
      labelColor: muted,
      titleColor: text,
      gridColor: line,
      domainColor: muted,
      tickColor: muted,
      titleFontWeight: "normal",
      titlePadding: 8,
    },
    axisX: { labelOverlap: true, tickCount: Math.max(3, Math.floor(width / 90)) },
    axisY: { labelLimit: names, maxExtent: names + 50 },
    axisBand: { grid: false },
    legend: { orient: "top", labelColor: text, titleColor: text, columns, labelLimit: (width - 40) / columns - 25 },
    range: { category: ["#3b82c4", "#c77700", "#2f9e6e", "#d6455d", "#9b6dc6", "#858b94"] },
  };
}

function forget() {
  drawn = [];
}
