"use strict";

const DATA = JSON.parse(document.getElementById("data").textContent);

/** The anchor of a section. */
function anchor(title) {
  return title.toLowerCase().replaceAll(/[^a-z]+/g, "-");
}

function wantedSections() {
  return SECTIONS.filter(([, , isWanted]) => isWanted === undefined || isWanted());
}

async function show(view) {
  document.documentElement.removeAttribute("data-ready");
  forget();
  document.getElementById("title").textContent = view.title;
  const sections = wantedSections().map(([title, content]) =>
    element("section", { "aria-labelledby": anchor(title) }, element("h2", { id: anchor(title) }, title), ...content(view)));
  document.getElementById("main").replaceChildren(...sections);
  await draw();
  // Tests wait for this attribute.
  document.documentElement.setAttribute("data-ready", "");
}

/** A result's name with its speed-up, which is never shown without its error. */
function optionText(view) {
  const { speed_up: speed, is_bound: isBound, output_error: error } = view.summary;
  const figures = [view.title, speedUpText(speed, isBound), ...(error === null ? [] : [`output error ${format.percent(error)}`])];
  return `${numberedName(view)} (${figures.join(", ")})`;
}

/** Adds a menu of the results. */
function chooser(choose) {
  const options = DATA.views.map((view, index) => element("option", { value: index }, optionText(view)));
  const select = element("select", { id: "view" }, ...options);
  select.addEventListener("change", () => choose(Number(select.value)));
  document.getElementById("choose").append(element("label", { for: "view" }, "Results"), select);
}

function start() {
  const links = wantedSections().map(([title]) => element("li", {}, element("a", { href: `#${anchor(title)}` }, title)));
  document.getElementById("contents").append(element("ul", {}, ...links));
  let current = 0;
  if (DATA.views.length > 1) {
    chooser((index) => {
      current = index;
      show(DATA.views[current]);
    });
  }
  show(DATA.views[current]);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}

start();
