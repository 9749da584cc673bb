"""Draws the pictures of the gallery's page, by the code that stands on it, before the page is read."""

from __future__ import annotations

import contextlib
import json
import math
import re
from pathlib import Path

from sphinx.application import Sphinx

from validation.measures import mean_interval


def _draw(app: Sphinx) -> None:
    page, folder = Path(app.srcdir) / "gallery.md", Path(app.srcdir) / "gallery"
    folder.mkdir(exist_ok=True)
    shown = re.findall(r"\(gallery/([\w-]+\.svg)\)", page.read_text(encoding="utf-8"))
    if all((folder / name).exists() for name in shown) and page.stat().st_mtime < folder.stat().st_mtime:
        return
    names: dict[str, object] = {}
    with contextlib.chdir(folder):
        for code in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
            exec(compile(code, str(page), "exec"), names)


def headline(results: Path) -> dict[str, str]:
    """The start page's number, from the results file of the planner's study."""
    entries = json.loads((results / "adaptive-digits.json").read_text(encoding="utf-8"))["entries"]
    (shares,) = [of["wide"] for name, of in entries.items() if name.startswith("joint-fill-chosen-rate")]
    low, high = mean_interval(shares) or (math.nan, math.nan)
    return {
        "time_share": f"{sum(shares) / len(shares):.0f} %",
        "interval": f"{low:.0f} to {high:.0f} %",
        "seeds": str(len(shares)),
    }


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("builder-inited", _draw)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
