"""Reports and the explorer in a real browser, at desktop and phone width: nothing sticks out, nothing fails to draw.

Skipped where Debian's Chromium is not installed, which under CI is a failure like every skipped test.
"""

from __future__ import annotations

import html
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from validation_runs import small_study, write_study

import kktalloc as ka
from kktalloc._problem.scenario import load_scenario
from kktalloc.bound import bound
from kktalloc.plan import plan, time_to_target
from validation.cases import run_cases
from validation.config import to_dict
from validation.explore.controls import Controls, Scenario, bound_inputs
from validation.explore.server import EXAMPLE, starting_target
from validation.explore.view import look
from validation.report import write_report
from validation.scale import page as scale_page
from validation.scale.study import CONFIG, MODULES, cases

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
_PATIENCE_MS = 600_000
"""Only what hangs takes so long: a busy machine is no failure."""
# The page sits in a frame of the width under test, as Chromium's own window is at least 500 pixels wide. Outside:
# every element that reaches beyond the frame, unless it is inside a box that scrolls by itself.
_PROBE = """<!doctype html><body><iframe style="width: WIDTHpx; height: 900px; border: 0" srcdoc="PAGE"></iframe>
<script>
const frame = document.querySelector("iframe");
frame.onload = () => {
  const page = frame.contentDocument, width = page.documentElement.clientWidth;
  const outside = [...page.querySelectorAll("main *")].filter(e => e.getBoundingClientRect().right > width + 1
      && !e.closest(".scroll") && !e.closest("pre") && !e.closest("svg"));
  const figures = [...page.querySelectorAll("figure svg")];
  document.body.setAttribute("data-probe", [figures.length,
      figures.filter(e => e.getBoundingClientRect().height < 80).length, outside.length,
      page.documentElement.scrollWidth - width, width].join(" "));
};
</script></body>"""


def _comparison(out: Path) -> Path:
    write_study(out, small_study())
    return write_report(out)


def _scale(out: Path) -> Path:
    tiny = replace(CONFIG, seeds=(1, 2), devices=(20, 60, 200), cells=(1, 3), devices_per_cell=15)
    run_cases(out, to_dict(tiny), cases(tiny), MODULES)
    return scale_page.write(out)


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize(("make", "figures"), [(_comparison, 7), (_scale, 2)], ids=["comparison", "scale"])
def test_a_page_fits_its_window(make: Callable[[Path], Path], figures: int, width: int, tmp_path: Path) -> None:
    text = make(tmp_path / "study").read_text(encoding="utf-8")
    probed = tmp_path / "probed.html"
    probed.write_text(_PROBE.replace("WIDTH", str(width)).replace("PAGE", html.escape(text)), encoding="utf-8")
    done = subprocess.run(
        [str(CHROMIUM), "--headless", "--hide-scrollbars", "--no-sandbox", "--disable-gpu",
         f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,900", "--dump-dom", probed.as_uri()],
        capture_output=True, text=True, check=True, timeout=_PATIENCE_MS / 1000,
    )  # fmt: skip
    found = re.search(r'data-probe="([^"]*)"', done.stdout)
    assert found, "the page did not load"
    drawn, flat, outside, overflow, inner = map(int, found[1].split())
    assert inner == width
    assert (drawn, flat, outside, overflow) == (figures, 0, 0, 0)


# --- the explorer ---------------------------------------------------------------------------------------------------

expect.set_options(timeout=_PATIENCE_MS)
SCENARIO = Scenario(load_scenario(EXAMPLE))
FIGURES = ("pruned", "bandwidth", "power", "terms", "curve")


@pytest.fixture(scope="module")
def explorer() -> Iterator[str]:
    """Address of a running explorer, which must end cleanly when it is interrupted."""
    options = ["explore", str(EXAMPLE), "--port", "0", "--no-browser"]
    command = [sys.executable, "-W", "error", "-m", "validation", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=EXAMPLE.parents[1]
    ) as server:
        try:
            assert server.stdout is not None
            said = server.stdout.readline()  # as long as it takes, or empty where it ended
            found = re.match(r"explorer: (http://127\.0\.0\.1:\d+/) ", said)
            if found:
                yield found[1]
                server.send_signal(signal.SIGINT)
            _, complaints = server.communicate(timeout=_PATIENCE_MS / 1000)
        finally:
            server.kill()  # whatever went wrong, nothing is left running
    assert found, complaints
    assert (server.returncode, complaints.splitlines()[-1]) == (0, "validation: explorer ended")
    assert "Traceback" not in complaints


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # No name resolves: the page must not need a network.
    arguments = ["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments, timeout=_PATIENCE_MS)
        yield chromium
        chromium.close()


@contextmanager
def opened(browser: Browser, address: str, width: int = 1280) -> Iterator[Page]:
    """The explorer in a window of that width; everything it asks for must come from `address`, and nothing may fail."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    asked: list[str] = []
    failed: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda line: failed.append(line.text) if line.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.set_default_timeout(_PATIENCE_MS)
    try:
        page.goto(address)
        page.wait_for_selector("#certificate")
        yield page
    finally:
        page.close()
    assert failed == []
    assert [url for url in asked if not url.startswith(address)] == []


def handle(page: Page, field: str) -> Locator:
    """The handle of a slider."""
    position = page.evaluate(
        "name => Bokeh.documents[0].get_model_by_name('radio').children.findIndex(s => s.name == name)", field
    )
    return page.locator(".controls .noUi-handle").nth(position)


def controls(page: Page) -> Controls:
    """Where the sliders stand, by what they show."""
    target = starting_target(SCENARIO)
    at = SCENARIO.start(target)
    for dials, column in zip(SCENARIO.dials(target), ("radio", "constants"), strict=True):
        shown = page.evaluate(
            "name => Bokeh.documents[0].get_model_by_name(name).children.map(s => [s.name, s.value])", column
        )
        for dial, (name, label) in zip(dials, shown, strict=True):
            assert dial.field == name
            at = replace(at, **{name: dial.values[dial.labels.index(label)]})
    return at


def drawn(page: Page, source: str) -> dict[str, list[Any]]:
    """Columns of a figure's data as the browser has them."""
    found: dict[str, list[Any]] = page.evaluate(
        """name => Object.fromEntries([...Object.entries(Bokeh.documents[0].get_model_by_name(name).data)]
            .map(([k, v]) => [k, Array.from(v)]))""",
        source,
    )
    return found


def check_that_the_page_shows(page: Page, at: Controls) -> None:
    """Wait until the page's numbers and figures are those of `kktalloc` at these settings."""
    problem = SCENARIO.problem_at(at)
    solution = ka.solve(problem)
    constants, schedule = bound_inputs(at)
    best = plan(problem, constants, schedule, at.total_time_s)
    fast = time_to_target(problem, constants, schedule, at.target)
    mean = f"{100 * float(solution.objective):.1f} %"
    expect(page.locator("#pruning .value")).to_have_text(mean)
    expect(page.locator("#pruning .best")).to_have_text(re.compile(f": {100 * best.pruning_error:.1f} %$"))
    expect(page.locator("#guarantee .best")).to_contain_text(f"{best.gradient_bound:.3g}, {best.rounds:,} rounds")
    expect(page.locator("#time .best")).to_contain_text(f"{fast.total_time_s:.0f} s, {fast.rounds:,} rounds")
    rounds = int(at.total_time_s / at.deadline_s + 1e-9)
    here = bound(constants, replace(schedule, rounds=rounds), solution.pruning_ratio, problem.devices.weight)
    expect(page.locator("#guarantee .value")).to_have_text(f"{float(here.gradient_bound):#.3g}")
    rows = page.locator("#devices tbody tr")
    expect(rows).to_have_count(solution.pruning_ratio.size)
    pruned = [float(rows.nth(k).locator("td").nth(0).inner_text().removesuffix(" %")) for k in range(rows.count())]
    np.testing.assert_allclose(pruned, 100 * solution.pruning_ratio, atol=0.0501)
    bars = drawn(page, "allocation_data")
    np.testing.assert_allclose(bars["pruned"], 100 * solution.pruning_ratio, rtol=1e-12)
    np.testing.assert_allclose(bars["bandwidth"], 1e-6 * solution.bandwidth_hz, rtol=1e-12)
    np.testing.assert_allclose(bars["power"], 1e3 * solution.tx_power_w, rtol=1e-12)
    terms = drawn(page, "terms_data")
    np.testing.assert_allclose(terms["pruning"][0], here.pruning / here.gradient_weight, rtol=1e-12)
    np.testing.assert_allclose(terms["pruning"][1], best.terms.pruning / best.terms.gradient_weight, rtol=1e-12)
    np.testing.assert_allclose(drawn(page, "marks_data")["deadline_s"], [at.deadline_s, best.deadline_s], rtol=1e-12)
    expect(page.locator("#certificate")).to_contain_text("Certificate holds")


def picture(page: Page, name: str) -> bytes:
    """What a figure looks like."""
    return page.locator("figure").nth(FIGURES.index(name)).screenshot()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_explorer_fits_its_window_and_needs_no_network(explorer: str, browser: Browser, width: int) -> None:
    with opened(browser, explorer, width) as page:
        check_that_the_page_shows(page, SCENARIO.start(starting_target(SCENARIO)))
        inner = page.evaluate("document.documentElement.clientWidth")
        assert inner == width
        assert page.evaluate("document.documentElement.scrollWidth") == width
        for name in FIGURES:
            box = page.locator("figure").nth(FIGURES.index(name)).bounding_box()
            assert box is not None, name
            assert box["height"] > 200, name
            assert box["width"] > 200, name
            assert box["x"] >= 0, name
            assert box["x"] + box["width"] <= width, name
            colours = Image.open(BytesIO(picture(page, name))).convert("RGB").getcolors(1 << 24)
            assert colours is not None, name
            assert len(colours) > 20, name  # something is drawn


def test_moving_a_slider_redraws_all_with_what_the_allocator_gives(explorer: str, browser: Browser) -> None:
    with opened(browser, explorer) as page, opened(browser, explorer) as other:
        start = controls(page)
        assert start == SCENARIO.start(starting_target(SCENARIO))
        before = {name: picture(page, name) for name in FIGURES}
        handle(page, "deadline_s").focus()
        for _ in range(12):
            page.keyboard.press("ArrowLeft")
        earlier = controls(page)
        assert earlier == replace(start, deadline_s=earlier.deadline_s)
        assert earlier.deadline_s < 0.8 * start.deadline_s
        check_that_the_page_shows(page, earlier)

        box = handle(page, "bandwidth_hz").bounding_box()
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        for step in range(1, 21):  # a drag: many moves in a row, the last one counts
            page.mouse.move(x + 2 * step, y)
        page.mouse.up()
        wider = controls(page)
        assert wider == replace(earlier, bandwidth_hz=wider.bandwidth_hz)
        assert wider.bandwidth_hz > 2 * earlier.bandwidth_hz
        check_that_the_page_shows(page, wider)

        handle(page, "energy_budget_j").focus()
        page.keyboard.press("End")
        handle(page, "tx_power_dbm").focus()
        page.keyboard.press("ArrowLeft")
        free = controls(page)
        assert free == replace(wider, energy_budget_j=np.inf, tx_power_dbm=19.5)
        check_that_the_page_shows(page, free)
        assert {name for name in FIGURES if picture(page, name) == before[name]} == set()

        check_that_the_page_shows(other, start)  # another tab has sliders of its own


def test_the_explorer_says_what_would_make_it_feasible(explorer: str, browser: Browser) -> None:
    with opened(browser, explorer) as page:
        handle(page, "deadline_s").focus()
        page.keyboard.press("Home")
        expect(page.locator("#infeasible")).to_be_visible()
        at = controls(page)
        message = ka.solve(SCENARIO.problem_at(at), throw=False).diagnosis.message  # type: ignore[union-attr]
        expect(page.locator("#infeasible")).to_have_text(f"I{message[1:]}.")
        (deadline, position), *_ = look(SCENARIO, at, SCENARIO.dials(at.target)[0]).remedies
        expect(page.locator("#remedy")).to_contain_text(f"would do: round deadline at {deadline.labels[position]}")
        expect(page.locator("#devices")).to_have_count(0)
        expect(page.locator("#certificate")).to_have_count(0)
        assert drawn(page, "allocation_data")["pruned"] == []
        page.keyboard.press("End")
        expect(page.locator("#infeasible")).to_have_count(0)
        check_that_the_page_shows(page, controls(page))


def test_only_this_machines_own_page_may_talk_to_the_explorer(explorer: str) -> None:
    port = urlsplit(explorer).port
    assert port is not None
    with pytest.raises(OSError, match=r"refused|timed out|unreachable|assign"):
        socket.create_connection(("127.0.0.2", port), timeout=2).close()
    headers = {
        "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Protocol": "bokeh, x",
    }  # fmt: skip
    connection = HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_MS / 1000)
    connection.request("GET", "/ws", headers={**headers, "Origin": "http://elsewhere.example"})
    assert connection.getresponse().status == 403
    connection.close()
