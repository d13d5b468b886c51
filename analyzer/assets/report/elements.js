"use strict";

/** Creates an element with attributes and children. Strings become text nodes, never markup. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Formats numbers as text; a missing number is a dash. */
const format = {
  count: (value) => known(value, (number) => number.toLocaleString("en")),
  percent: (value) => known(value, (number) => `${(100 * number).toFixed(1)}\u00a0%`),
  points: (value) => known(value, (number) => number.toFixed(2)),
  times: (value) => known(value, (number) => `${number.toFixed(2)}x`),
  signed: (value) => known(value, (number) => `${number < 0 ? "" : "+"}${number.toFixed(4)}`),
  short: (value) => known(value, (number) => number.toPrecision(4)),
  interval: (low, high, as) => (low === null || high === null ? null : `${as(low)} to ${as(high)}`),
};

function known(value, as) {
  return value === null || value === undefined || Number.isNaN(value) ? "-" : as(value);
}

/** A speed-up as text, with a mark if it is a bound. */
function speedUpText(speed, isBound) {
  return isBound ? `${format.times(speed)} (bound)` : format.times(speed);
}

/** A sentence for captions of charts if any of the rows is a bound; empty otherwise. */
function boundNote(rows) {
  return rows.some((row) => row.is_bound) ? " Some of these are bounds, no hardware." : "";
}

/** A quotient; null if a side is missing or the divisor is not positive. */
function ratio(above, below) {
  return above === null || below === null || !(below > 0) ? null : above / below;
}

function sum(rows, column) {
  return rows.reduce((total, row) => total + (row[column] ?? 0), 0);
}

/** A table: `columns` are `[title, value, attributes]`, where `value` maps a row to text. */
function plainTable(caption, columns, rows) {
  const head = element("tr", {}, ...columns.map(([title, , attributes]) => element("th", { scope: "col", ...attributes }, title)));
  const body = rows.map((row) => element("tr", {}, ...columns.map(([, value, attributes]) => element("td", attributes ?? {}, value(row)))));
  const table = element("table", {}, element("caption", {}, caption), element("thead", {}, head), element("tbody", {}, ...body));
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, table);
}
