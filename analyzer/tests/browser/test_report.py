"""Tests the report in headless Chromium: it draws, sorts and fits the window, without network and without errors.

`make test-report` runs these tests on a small real trace. It sets MERCURY_TRACE to the trace, MERCURY_RESULTS to its
results, MERCURY_SWEEP to a sweep, MERCURY_SEARCH to a search and MERCURY_ANALYZER to the program. If MERCURY_SCREENSHOTS names a folder,
screenshots are saved there.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import polars as pl
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# A mark, not a skip of the whole module: pytest reports an error if it collects no test.
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="NO CHROMIUM: the report is not tested; install the package chromium"
)

# If a name is taken for markup, this text ends an element, an attribute or a string, or runs as a script.
NASTY = """</script><script>document.title = 'broken'</script><img src=x onerror="document.title='broken'">'"&amp;\\"""
WIDTHS = (1280, 400)
SCHEMES = ("light", "dark")


def get_folder(variable: str) -> Path:
    path = os.environ.get(variable)
    if not path:
        pytest.fail(f"{variable} is not set; run `make test-report`", pytrace=False)
    return Path(path)


def write_report(out: Path, *arguments: Path | str) -> str:
    command = [get_folder("MERCURY_ANALYZER"), "report", *arguments, "--out", out]
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
    """The address of a report with all sections."""
    out = tmp_path_factory.mktemp("report") / "report.html"
    results, sweep = get_folder("MERCURY_RESULTS"), get_folder("MERCURY_SWEEP")
    return write_report(out, results, sweep, "--trace", get_folder("MERCURY_TRACE"))


@pytest.fixture(scope="module")
def searched(tmp_path_factory) -> str:
    """The address of a report of a search, results and a sweep of the same trace."""
    out = tmp_path_factory.mktemp("search") / "report.html"
    return write_report(out, *map(get_folder, ("MERCURY_RESULTS", "MERCURY_SEARCH", "MERCURY_SWEEP")))


def open_page(browser: Browser, address: str, width: int = 1280, scheme: str = "light") -> Page:
    """Opens and draws the page; a console message, an exception or a network request fails the test."""
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
    wait_until_drawn(page)
    return page


def wait_until_drawn(page: Page) -> None:
    page.wait_for_selector("html[data-ready]", timeout=60_000, state="attached")
    assert page.problems == []


def count_marks(page: Page) -> dict[str, int]:
    """Number of visible marks in each chart: bars, points, lines and rules, without axes and legends."""
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
    page = open_page(browser, whole, width, scheme)
    found = count_marks(page)
    assert len(found) >= 15 and all(found.values()), found
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    titles = page.eval_on_selector_all(
        "[data-chart]", "charts => charts.map(c => c.querySelectorAll('.role-axis-title').length)"
    )
    assert all(count >= 2 for count in titles), titles
    pictures = os.environ.get("MERCURY_SCREENSHOTS")
    if pictures:
        page.screenshot(path=Path(pictures) / f"report-{width}-{scheme}.png", full_page=True)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_a_search_is_drawn_and_fits(browser, searched, width, scheme):
    page = open_page(browser, searched, width, scheme)
    found = count_marks(page)
    charts = {name.split(" ")[1] for name in found}
    assert {"search_frontier", "choices", "hits_errors"} <= charts and all(found.values()), found
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    pictures = os.environ.get("MERCURY_SCREENSHOTS")
    if pictures:
        page.screenshot(path=Path(pictures) / f"search-{width}-{scheme}.png", full_page=True)


def test_the_page_opens_with_the_verdict_of_the_search(browser, searched):
    page = open_page(browser, searched)
    assert page.locator("main h2").first.inner_text() == "Verdict of the search"
    record = json.loads((get_folder("MERCURY_SEARCH") / "run.json").read_text())["search"]
    best = record["readings"][record["best"]]
    configured, _, design = best["methods"]
    verdict = page.get_by_role("region", name="Verdict of the search")
    text = verdict.inner_text().replace("\u00a0", " ")
    assert f"{design['speed_up']:.2f}x the baseline's speed under {best['name']}" in text
    assert f"{design['exceeding']} of {design['passes']} errors exceed the bound" in text
    assert f"As configured, {best['name']} gives {configured['speed_up']:.2f}x" in text
    assert f"errors of up to {100 * configured['largest_error']:.1f} %" in text
    assert "Nothing is judged (--folds 0)" in text
    frontier = pl.read_parquet(get_folder("MERCURY_SEARCH") / "frontier.parquet")
    limit = float(record["bounds"][0].split()[-1])
    (row,) = frontier.filter(reading=best["name"], method="per layer", limit=limit).iter_rows(named=True)
    predicted = "No accuracy loss is predicted"
    if row["accuracy_loss"] is not None:
        predicted = f"accuracy loss is {row['accuracy_loss']:.2f} points (at most {row['accuracy_loss_upper']:.2f})"
    assert predicted in text
    rows = verdict.get_by_role("region", name="Readings of the hardware").locator("tbody tr")
    names = rows.evaluate_all("rows => rows.map(row => row.cells[0].innerText)")
    assert names[0] == best["name"] and sorted(names) == ["bound (no hardware)", "mercury", "mercury-ahead", "mercury-skip"]
    assert f"--reuse {get_folder('MERCURY_SEARCH') / best['file']}" in text


def test_the_settings_of_each_layer_and_the_design_s_file_are_shown(browser, searched):
    page = open_page(browser, searched)
    choices = pl.read_parquet(get_folder("MERCURY_SEARCH") / "choices.parquet")
    record = json.loads((get_folder("MERCURY_SEARCH") / "run.json").read_text())["search"]
    best = record["readings"][record["best"]]
    on = choices.filter(pl.col("reading") == best["name"], pl.col("reuse"))
    table = page.get_by_role("region", name="Passes with reuse")
    assert table.locator("tbody tr").count() == on.height > 0
    assert f"{on['variant'][0]}, {on['signature_bits'][0]} bits" in table.locator("tbody tr").first.inner_text()
    # The views: the replay, the recommended design, and its reading as configured.
    options = page.locator("#view option").all_inner_texts()
    assert f"{best['name']}, per layer" in options[1] and f"{best['name']}, configured" in options[2]
    page.get_by_label("Results", exact=True).select_option("1")
    page.wait_for_function("document.querySelector('#command')?.innerText.includes('--config')")
    wait_until_drawn(page)
    assert all(count_marks(page).values())
    file = get_folder("MERCURY_SEARCH") / best["file"]
    assert f"--config {file}" in page.locator("#command").inner_text()
    assert page.locator("#probe").inner_text().endswith(f"--probe {file}")
    assert "per layer: " in page.get_by_role("region", name="What was replayed").inner_text()
    assert "the verdict of the search is the answer" in page.get_by_role("region", name="Answer").inner_text()


def test_a_speed_up_is_never_shown_without_its_errors(browser, whole):
    page = open_page(browser, whole)
    text = page.get_by_role("region", name="Answer").inner_text().replace("\u00a0", " ")
    assert "reuse is faster" not in text
    assert re.search(r"x the baseline's speed .*with an output error of [\d.]+ % and a gradient error of [\d.]+ %", text)
    assert "not shown by a replay" in text and "mercury-analyzer search TRACE" in text
    # Every configuration with an error is a point.
    rows = page.evaluate("DATA.configurations.filter(row => row.output_error !== null).length")
    assert page.locator("[data-chart=hits_errors] .role-mark.marks path").count() == rows > 1


def test_a_search_without_reuse_says_so(browser, tmp_path):
    trace, out = get_folder("MERCURY_TRACE"), tmp_path / "exact"
    command = [get_folder("MERCURY_ANALYZER"), "search", trace, "--out", out, "--folds", "0"]
    flags = ["--preset", "mercury", "--per-layer", "rpq.bits=48", "--bound", "layer-error<=0.001"]
    found = subprocess.run([*command, *flags], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    page = open_page(browser, write_report(tmp_path / "report.html", out))
    text = page.get_by_role("region", name="Verdict of the search").inner_text()
    assert "no layer's reuse saves cycles" in text
    assert "no layer reuses" in page.get_by_role("region", name="Answer").inner_text()
    assert all(count_marks(page).values())


def test_colours_follow_the_reader_s_choice(browser, whole):
    page = open_page(browser, whole)
    colour = "getComputedStyle(document.querySelector('.role-axis-title text')).fill"
    before = page.evaluate(colour)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"before => {colour} !== before", arg=before)
    assert page.problems == []


def find_layer_table(page: Page):
    return page.get_by_role("region", name="One row per layer and pass").locator("table")


def read_column(page: Page, title: str) -> list[str]:
    table = find_layer_table(page)
    headers = table.locator("thead th").all_inner_texts()
    place = headers.index(title)
    return table.locator("tbody tr").evaluate_all(f"rows => rows.map(row => row.cells[{place}].innerText)")


def read_numbers(texts: list[str]) -> list[float]:
    return [float(text.replace(",", "").rstrip("x\u00a0%")) for text in texts if text != "-"]


def test_the_table_sorts_by_click_and_by_keyboard(browser, whole):
    page = open_page(browser, whole)
    cycles = read_numbers(read_column(page, "baseline cycles"))
    assert len(cycles) > 10 and cycles != sorted(cycles)

    header = find_layer_table(page).get_by_role("button", name="baseline cycles")
    header.click()
    assert read_numbers(read_column(page, "baseline cycles")) == sorted(cycles, reverse=True)
    assert find_layer_table(page).locator("th[aria-sort]").all_inner_texts() == ["baseline cycles"]

    # From here on by keyboard: reverse the same header, then sort by the header to its left.
    page.keyboard.press("Enter")
    assert read_numbers(read_column(page, "baseline cycles")) == sorted(cycles)
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    saved = read_column(page, "MACs saved, net (%)")
    assert read_numbers(saved) == sorted(read_numbers(saved), reverse=True)
    # Rows without a value come last.
    assert all(text == "-" for text in saved[len(read_numbers(saved)) :])
    assert page.problems == []


def test_other_results_are_chosen_by_keyboard(browser, whole):
    page = open_page(browser, whole)
    command = page.locator("#command").inner_text()
    page.get_by_label("Results", exact=True).focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_function("before => document.querySelector('#command')?.innerText !== before", arg=command)
    wait_until_drawn(page)
    assert all(count_marks(page).values())


def test_every_control_is_reached_by_tab(browser, whole):
    page = open_page(browser, whole)
    reached = set()
    for _ in range(200):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement.tagName + ' ' + document.activeElement.innerText.slice(0, 20)")
        )
    for control in ("A Skip to the results", "SELECT", "BUTTON speed-up", "SUMMARY All"):
        assert any(name.startswith(control) for name in reached), control


def sign(folder: Path, name: str) -> None:
    """Updates the checksum of a changed file."""
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    sums = (folder / "SHA256SUMS").read_text()
    changed = re.sub(rf"^[0-9a-f]{{64}}(  {re.escape(name)})$", rf"{digest}\1", sums, flags=re.M)
    assert changed != sums, f"SHA256SUMS has no {name}"
    (folder / "SHA256SUMS").write_text(changed)


def test_names_are_never_markup(browser, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(get_folder("MERCURY_RESULTS"), results)
    layers = pl.read_parquet(results / "layers.parquet")
    first = layers["layer"][0]
    renamed = pl.when(pl.col("layer") == first).then(pl.lit(NASTY)).otherwise("layer").alias("layer")
    layers.with_columns(renamed).write_parquet(results / "layers.parquet")
    sign(results, "layers.parquet")
    page = open_page(browser, write_report(tmp_path / "report.html", results))
    assert page.title() != "broken"
    assert NASTY in read_column(page, "layer")
    assert page.locator("main img").count() == 0
    # The tooltip of a mark shows the name, too.
    page.locator("[data-chart=outcomes] .mark-rect path").first.hover(force=True)
    page.wait_for_selector("#vg-tooltip-element.visible")
    assert page.locator("#vg-tooltip-element img").count() == 0
    assert page.title() != "broken" and page.problems == []


def test_results_without_errors_bounds_or_sweeps_say_so(browser, tmp_path):
    results = tmp_path / "bare"
    command = [
        get_folder("MERCURY_ANALYZER"),
        "replay",
        get_folder("MERCURY_TRACE"),
        "--out",
        results,
        "--errors",
        "none",
    ]
    subprocess.run(command, check=True, capture_output=True)
    page = open_page(browser, write_report(tmp_path / "report.html", results))
    text = page.locator("main").inner_text()
    for note in (
        "Output errors were not computed",
        "one signature length",
        "Bounds were not computed",
        "add --trace",
    ):
        assert note in text
    assert all(count_marks(page).values())


def test_the_section_on_errors_says_whose_error_it_is(browser, whole):
    page = open_page(browser, whole)
    causes = page.get_by_role("region", name="Whose error it is").locator("tbody tr")
    passes, shares = read_column(page, "pass"), read_column(page, "share of the pass's error (%)")
    layers = read_column(page, "layer")
    for row in causes.all():
        name, _, largest = row.locator("td").all_inner_texts()
        found = {
            layer: float(share.rstrip("\u00a0%"))
            for layer, where, share in zip(layers, passes, shares, strict=True)
            if where == name and share != "-"
        }
        assert abs(sum(found.values()) - 100) < 0.05 * len(found) + 1e-9, found
        first = largest.split(" ")[0]
        assert found[first] == max(found.values())
    assert "These errors are local" in page.locator("main").inner_text()
    probe = page.locator("#probe").inner_text()
    assert "mercury-tracer train --out PROBE --model vgg13" in probe
    assert "--probe " in probe and "--measure " in probe and "--capture" not in probe


def test_bounds_equal_macs_and_needs_of_mcache_are_shown(browser, tmp_path):
    for name, flags in {"bound": ["--array.hit_cycles", "0"], "ahead": ["--preset", "mercury-ahead"]}.items():
        command = [get_folder("MERCURY_ANALYZER"), "replay", get_folder("MERCURY_TRACE"), "--errors", "none"]
        subprocess.run([*command, "--out", tmp_path / name, *flags], check=True, capture_output=True)
    page = open_page(browser, write_report(tmp_path / "report.html", tmp_path / "bound", tmp_path / "ahead"))
    answer = page.get_by_role("region", name="Answer")
    text = answer.inner_text()
    assert "(a bound, no hardware)" in text and "Speed-up at equal MACs" not in text
    assert "MCACHE needed" in text and "results per cycle on average" in text
    assert any(speed.endswith("x (bound)") for speed in read_column(page, "speed-up"))
    assert "(bound)" in page.locator("#view option").first.inner_text()
    page.get_by_label("Results", exact=True).select_option("1")
    answer.get_by_text("Speed-up at equal MACs").wait_for()
    wait_until_drawn(page)
    assert "bound, no hardware" not in answer.inner_text()
    assert "speed-up at equal MACs" in find_layer_table(page).locator("thead th").all_inner_texts()


def test_swept_and_replayed_configurations_are_counted_separately(browser, whole):
    swept = pl.read_parquet(get_folder("MERCURY_SWEEP") / "configurations.parquet").height
    page = open_page(browser, whole)
    assert f"Configurations of this trace: {swept} swept and 1 replayed." in page.locator("main").inner_text()
    assert page.locator("#capture").inner_text().startswith("mercury-tracer capture --out TRACE --model vgg13")


@pytest.mark.parametrize("width", WIDTHS)
def test_several_arrays_are_compared(browser, tmp_path, width):
    results, label = tmp_path / "ws", NASTY[-100:]
    analyzer, trace = get_folder("MERCURY_ANALYZER"), get_folder("MERCURY_TRACE")
    command = [analyzer, "replay", trace, "--out", results, "--label", label]
    subprocess.run([*command, "--array.dataflow", "ws", "--errors", "all"], check=True, capture_output=True)
    folders = (get_folder("MERCURY_RESULTS"), results, get_folder("MERCURY_SWEEP"))
    page = open_page(browser, write_report(tmp_path / "report.html", *folders), width)
    assert all(count_marks(page).values()) and page.evaluate("document.documentElement.scrollWidth") <= width
    text = page.locator("main").inner_text()
    assert "speed-ups cannot be compared across arrays: compare MERCURY cycles" in text
    assert page.locator("[data-chart=frontier_cycles]").count() == 1
    assert page.locator("[data-chart=frontier]").count() == 0
    table = page.get_by_role("region", name="One row per result")
    names = table.locator("tbody tr td:first-child").all_inner_texts()
    assert len(names) == page.locator("#view option").count() and names[1] == f"2: {label}"
    table.get_by_role("button", name="MERCURY cycles").press("Enter")
    place = table.locator("thead th").all_inner_texts().index("MERCURY cycles")
    texts = table.locator("tbody tr").evaluate_all(f"rows => rows.map(row => row.cells[{place}].innerText)")
    cycles = read_numbers(texts)
    assert cycles == sorted(cycles, reverse=True) and page.locator("main img").count() == 0
    assert page.title() != "broken" and page.problems == []
