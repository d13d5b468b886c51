"use strict";

const DATA = JSON.parse(document.getElementById("data").textContent);

/** The place of a section in addresses. */
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
  // For whoever waits for the charts, such as a test.
  document.documentElement.setAttribute("data-ready", "");
}

/** Lets the reader choose among results, where there are several. */
function chooser(choose) {
  const options = DATA.views.map((view, index) => element("option", { value: index }, `${numberedName(view)} (${view.title}, ${format.times(view.summary.speed_up)})`));
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
