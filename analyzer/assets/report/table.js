"use strict";

/** Columns of the table of layers: title, value, format, sort order. */
function layerColumns(view) {
  const busy = (macs, cycles) => ratio(macs, view.elements * cycles);
  const errors = sumErrors(view.layers);
  const markBound = (speed, row) => speedUpText(speed, row.is_bound);
  const atEqualMacs = (row) => ratio(row.baseline_equal_macs_cycles, row.mercury_cycles);
  const equalMacs = { title: "speed-up at equal MACs", value: atEqualMacs, show: markBound };
  return [
    { title: "layer", value: (row) => row.layer, text: true, order: (row) => row.layer_index },
    { title: "operation", value: (row) => row.op, text: true },
    { title: "pass", value: (row) => row.pass, text: true, order: (row) => row.pass_order },
    { title: "vectors", value: (row) => row.vectors, show: format.count },
    { title: "HIT (%)", value: (row) => ratio(row.hit, row.vectors), show: format.percent },
    { title: "MAU (%)", value: (row) => ratio(row.mau, row.vectors), show: format.percent },
    { title: "MNU (%)", value: (row) => ratio(row.mnu, row.vectors), show: format.percent },
    { title: "output error (%)", value: (row) => row.output_error, show: format.percent },
    { title: "share of the pass's error (%)", value: (row) => errorShare(row, errors), show: format.percent },
    { title: "MACs saved, net (%)", value: (row) => ratio(row.macs_saved_net, row.macs), show: format.percent },
    { title: "baseline cycles", value: (row) => row.baseline_cycles, show: format.count },
    { title: "MERCURY cycles", value: (row) => row.mercury_cycles, show: format.count },
    { title: "speed-up", value: (row) => row.speed_up, show: markBound },
    ...(hasEqualMacs(view.summary) ? [equalMacs] : []),
    { title: "baseline utilisation (%)", value: (row) => busy(row.macs, row.baseline_cycles), show: format.percent },
    { title: "MERCURY utilisation (%)", value: (row) => busy(row.macs - row.macs_saved_net, row.mercury_cycles), show: format.percent },
    { title: "energy (% of baseline)", value: (row) => ratio(row.mercury_energy, row.baseline_energy), show: format.percent },
    { title: "off from step", value: (row) => row.switched_off_at, show: format.count },
  ];
}

/** The squared error of each pass, over all layers. */
function sumErrors(rows) {
  return Object.fromEntries(PASSES.map((pass) => [pass, sum(rows.filter((row) => row.pass === pass), "error_square")]));
}

/** The layer's share of the squared error of its pass, as `error_share` of layers.parquet, but over several steps. */
function errorShare(row, errors) {
  return ratio(row.error_square, errors[row.pass]);
}

/** Whether the speed-up at equal MACs differs from the speed-up, as with a unit for signatures. */
function hasEqualMacs(summary) {
  return summary.speed_up_equal_macs !== summary.speed_up;
}

/** A table that sorts by a column when its header is activated by click, Enter or space; a second activation reverses the order. */
function sortableTable(caption, columns, rows) {
  const body = element("tbody");
  const headers = columns.map((column) => {
    const button = element("button", { type: "button" }, column.title);
    return element("th", { scope: "col", class: column.text ? "text" : "number" }, button);
  });
  const fill = (sorted) => body.replaceChildren(...sorted.map((row) => element("tr", {}, ...columns.map((column) => cell(column, row)))));
  headers.forEach((header, index) => {
    header.firstChild.addEventListener("click", () => {
      const before = header.getAttribute("aria-sort");
      // The first activation sorts numbers from the largest, names from the first.
      const first = columns[index].text ? "ascending" : "descending";
      const other = first === "ascending" ? "descending" : "ascending";
      const direction = before === first ? other : first;
      headers.forEach((one) => one.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", direction);
      fill(sortedBy(rows, columns[index], direction));
    });
  });
  fill(rows);
  const table = element("table", {}, element("caption", {}, caption), element("thead", {}, element("tr", {}, ...headers)), body);
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, table);
}

function cell(column, row) {
  const value = column.value(row);
  const kind = column.text ? "text" : "number";
  return element("td", { class: column.wraps ? `${kind} name` : kind }, column.show ? column.show(value, row) : value);
}

/** Sorts rows; those without a value come last in both directions. */
function sortedBy(rows, column, direction) {
  const key = column.order ?? column.value;
  const sign = direction === "ascending" ? 1 : -1;
  return rows.toSorted((a, b) => {
    const [x, y] = [key(a) ?? null, key(b) ?? null];
    if (x === null || y === null) return (x === null) - (y === null);
    return typeof x === "string" ? sign * x.localeCompare(y, "en") : sign * (x - y);
  });
}
