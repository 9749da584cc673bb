"""The pages in a real browser, at desktop and phone width: nothing sticks out, nothing fails to draw.

Collected only where Debian's Chromium is installed.
"""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from validation_runs import small_study, write_study

from validation.cases import run_cases
from validation.config import to_dict
from validation.report import write_report
from validation.scale import page as scale_page
from validation.scale.study import CONFIG, MODULES, cases

CHROMIUM = shutil.which("chromium")
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


if CHROMIUM:

    @pytest.mark.parametrize("width", [1280, 390])
    @pytest.mark.parametrize(("make", "figures"), [(_comparison, 7), (_scale, 2)], ids=["comparison", "scale"])
    def test_a_page_fits_its_window(make: Callable[[Path], Path], figures: int, width: int, tmp_path: Path) -> None:
        text = make(tmp_path / "study").read_text(encoding="utf-8")
        probed = tmp_path / "probed.html"
        probed.write_text(_PROBE.replace("WIDTH", str(width)).replace("PAGE", html.escape(text)), encoding="utf-8")
        done = subprocess.run(
            [CHROMIUM, "--headless", "--hide-scrollbars", "--no-sandbox", "--disable-gpu",
             f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,900", "--dump-dom", probed.as_uri()],
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        found = re.search(r'data-probe="([^"]*)"', done.stdout)
        assert found, "the page did not load"
        drawn, flat, outside, overflow, inner = map(int, found[1].split())
        assert inner == width
        assert (drawn, flat, outside, overflow) == (figures, 0, 0, 0)
