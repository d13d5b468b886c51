"""The report in a headless Chromium: it draws, sorts and fits, without a network and without an error.

`make test-report` runs it on a small real trace and names that in MERCURY_TRACE, its results in MERCURY_RESULTS,
a sweep in MERCURY_SWEEP and the program in MERCURY_ANALYZER. With MERCURY_SCREENSHOTS set to a folder it leaves
pictures there.
"""

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import polars as pl
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# Test by test: a module of which nothing is collected is an error to pytest.
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="NO CHROMIUM: the report is not tested; install the package chromium"
)

# What ends an element, an attribute or a string, or would run, where a name is taken for markup.
NASTY = """</script><script>document.title = 'broken'</script><img src=x onerror="document.title='broken'">'"&amp;\\"""
WIDTHS = (1280, 400)
SCHEMES = ("light", "dark")


def folder(variable: str) -> Path:
    path = os.environ.get(variable)
    if not path:
        pytest.fail(f"{variable} is not set; run `make test-report`", pytrace=False)
    return Path(path)


def report(out: Path, *arguments: Path | str) -> str:
    command = [folder("MERCURY_ANALYZER"), "report", *arguments, "--out", out]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return out.as_uri()


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        # A container's root has no sandbox.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> str:
    """A report with everything in it."""
    out = tmp_path_factory.mktemp("report") / "report.html"
    return report(out, folder("MERCURY_RESULTS"), folder("MERCURY_SWEEP"), "--trace", folder("MERCURY_TRACE"))


def opened(browser: Browser, address: str, width: int = 1280, scheme: str = "light") -> Page:
    """The page, drawn; whatever it says on the console, throws or fetches fails the test."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page = context.new_page()
    page.problems = []
    page.on("console", lambda message: page.problems.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: page.problems.append(f"thrown: {error}"))
    page.on(
        "request",
        lambda request: page.problems.append(f"fetched: {request.url}") if request.url.startswith("http") else None,
    )
    page.goto(address)
    drawn(page)
    return page


def drawn(page: Page) -> None:
    page.wait_for_selector("html[data-ready]", timeout=60_000, state="attached")
    assert page.problems == []


def marks(page: Page) -> dict[str, int]:
    """Visible marks of each chart: bars, points, lines and rules, not axes or legends."""
    count = """charts => Object.fromEntries(charts.map((chart, index) => [
        index + ' ' + chart.dataset.chart,
        [...chart.querySelectorAll('.mark-rect, .mark-symbol, .mark-line, .mark-rule, .mark-text')]
            .filter(group => !group.closest('.role-axis, .role-legend'))
            .flatMap(group => [...group.querySelectorAll('path, line, rect, text')])
            .map(mark => mark.getBoundingClientRect())
            .filter(box => box.width + box.height > 0).length]))"""
    return page.eval_on_selector_all("[data-chart]", count)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_every_chart_is_drawn_and_the_page_fits(browser, whole, width, scheme):
    page = opened(browser, whole, width, scheme)
    found = marks(page)
    assert len(found) >= 15 and all(found.values()), found
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    titles = page.eval_on_selector_all(
        "[data-chart]", "charts => charts.map(c => c.querySelectorAll('.role-axis-title').length)"
    )
    assert all(count >= 2 for count in titles), titles
    pictures = os.environ.get("MERCURY_SCREENSHOTS")
    if pictures:
        page.screenshot(path=Path(pictures) / f"report-{width}-{scheme}.png", full_page=True)


def test_colours_follow_the_reader_s_choice(browser, whole):
    page = opened(browser, whole)
    colour = "getComputedStyle(document.querySelector('.role-axis-title text')).fill"
    before = page.evaluate(colour)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"before => {colour} !== before", arg=before)
    assert page.problems == []


def layer_table(page: Page):
    return page.get_by_role("region", name="A row for each layer and pass").locator("table")


def column(page: Page, title: str) -> list[str]:
    table = layer_table(page)
    headers = table.locator("thead th").all_inner_texts()
    place = headers.index(title)
    return table.locator("tbody tr").evaluate_all(f"rows => rows.map(row => row.cells[{place}].innerText)")


def numbers(texts: list[str]) -> list[float]:
    return [float(text.replace(",", "").rstrip("x\u00a0%")) for text in texts if text != "-"]


def test_the_table_sorts_by_click_and_by_keyboard(browser, whole):
    page = opened(browser, whole)
    cycles = numbers(column(page, "baseline cycles"))
    assert len(cycles) > 10 and cycles != sorted(cycles)

    header = layer_table(page).get_by_role("button", name="baseline cycles")
    header.click()
    assert numbers(column(page, "baseline cycles")) == sorted(cycles, reverse=True)
    assert layer_table(page).locator("th[aria-sort]").all_inner_texts() == ["baseline cycles"]

    # From there on with keys alone: the same header the other way round, then the one to its left.
    page.keyboard.press("Enter")
    assert numbers(column(page, "baseline cycles")) == sorted(cycles)
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    spared = column(page, "MACs spared (%)")
    assert numbers(spared) == sorted(numbers(spared), reverse=True)
    # What has no value stands last.
    assert all(text == "-" for text in spared[len(numbers(spared)) :])
    assert page.problems == []


def test_other_results_are_chosen_by_keyboard(browser, whole):
    page = opened(browser, whole)
    command = page.locator("#command").inner_text()
    page.get_by_label("Results", exact=True).focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_function("before => document.querySelector('#command')?.innerText !== before", arg=command)
    drawn(page)
    assert all(marks(page).values())


def test_everything_that_acts_is_reached_by_tab(browser, whole):
    page = opened(browser, whole)
    reached = set()
    for _ in range(200):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement.tagName + ' ' + document.activeElement.innerText.slice(0, 20)")
        )
    assert any(what.startswith("A Skip to the results") for what in reached)
    assert any(what.startswith("SELECT") for what in reached)
    assert any(what.startswith("BUTTON speed-up") for what in reached)
    assert any(what.startswith("SUMMARY All") for what in reached)


def sign(folder: Path, name: str) -> None:
    """Rewrites the checksum of a file that was changed."""
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    sums = (folder / "SHA256SUMS").read_text()
    changed = re.sub(rf"^[0-9a-f]{{64}}(  {re.escape(name)})$", rf"{digest}\1", sums, flags=re.M)
    assert changed != sums, f"SHA256SUMS has no {name}"
    (folder / "SHA256SUMS").write_text(changed)


def test_names_stay_text_whatever_is_in_them(browser, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(folder("MERCURY_RESULTS"), results)
    layers = pl.read_parquet(results / "layers.parquet")
    first = layers["layer"][0]
    renamed = pl.when(pl.col("layer") == first).then(pl.lit(NASTY)).otherwise("layer").alias("layer")
    layers.with_columns(renamed).write_parquet(results / "layers.parquet")
    sign(results, "layers.parquet")
    page = opened(browser, report(tmp_path / "report.html", results))
    assert page.title() != "broken"
    assert NASTY in column(page, "layer")
    assert page.locator("main img").count() == 0
    # Also where a name is shown beside a mark.
    page.locator("[data-chart=outcomes] .mark-rect path").first.hover(force=True)
    page.wait_for_selector("#vg-tooltip-element.visible")
    assert page.locator("#vg-tooltip-element img").count() == 0
    assert page.title() != "broken" and page.problems == []


def test_results_without_errors_bounds_or_sweeps_say_so(browser, tmp_path):
    results = tmp_path / "bare"
    command = [
        folder("MERCURY_ANALYZER"),
        "replay",
        folder("MERCURY_TRACE"),
        "--out",
        results,
        "--without",
        "errors,bounds",
    ]
    subprocess.run(command, check=True, capture_output=True)
    page = opened(browser, report(tmp_path / "report.html", results))
    text = page.locator("main").inner_text()
    for said in (
        "Output errors were not computed",
        "one signature length",
        "Bounds were left out",
        "name the trace by --trace",
    ):
        assert said in text
    assert all(marks(page).values())


def test_configurations_are_counted_by_where_they_come_from(browser, whole):
    swept = pl.read_parquet(folder("MERCURY_SWEEP") / "configurations.parquet").height
    page = opened(browser, whole)
    assert f"Configurations of this trace: {swept} swept and 1 replayed." in page.locator("main").inner_text()
    assert page.locator("#capture").inner_text().startswith("mercury-tracer capture --out TRACE --model vgg13")


@pytest.mark.parametrize("width", WIDTHS)
def test_several_arrays_stand_side_by_side(browser, tmp_path, width):
    results, label = tmp_path / "ws", NASTY[-100:]
    command = [folder("MERCURY_ANALYZER"), "replay", folder("MERCURY_TRACE"), "--out", results, "--label", label]
    subprocess.run([*command, "--array.dataflow", "ws", "--without", "bounds"], check=True, capture_output=True)
    page = opened(
        browser, report(tmp_path / "report.html", folder("MERCURY_RESULTS"), results, folder("MERCURY_SWEEP")), width
    )
    assert all(marks(page).values()) and page.evaluate("document.documentElement.scrollWidth") <= width
    text = page.locator("main").inner_text()
    assert "each speed-up is relative to its own: compare MERCURY cycles" in text
    assert page.locator("[data-chart=frontier_cycles]").count() == 1
    assert page.locator("[data-chart=frontier]").count() == 0
    table = page.get_by_role("region", name="A row for each of the results")
    names = table.locator("tbody tr td:first-child").all_inner_texts()
    assert len(names) == page.locator("#view option").count() and names[1] == f"2: {label}"
    table.get_by_role("button", name="MERCURY cycles").press("Enter")
    place = table.locator("thead th").all_inner_texts().index("MERCURY cycles")
    cycles = numbers(table.locator("tbody tr").evaluate_all(f"rows => rows.map(row => row.cells[{place}].innerText)"))
    assert cycles == sorted(cycles, reverse=True) and page.locator("main img").count() == 0
    assert page.title() != "broken" and page.problems == []
