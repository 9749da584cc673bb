"""Draws the pictures of the gallery's page, by the code that stands on it, before the page is read."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path

from sphinx.application import Sphinx


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
    claims = json.loads((results / "adaptive-digits.json").read_text(encoding="utf-8"))["claims"]
    tuned = [c["measured"] for c in claims if "mean over all" in c["statement"] and "the tuned" in c["statement"]]
    low, high = tuned[0]["interval_95"]
    return {
        "time_share": f"{tuned[0]['mean']:.0f} %",
        "interval": f"{low:.0f} to {high:.0f} %",
        "seeds": str(len(tuned[0]["per_seed"])),
    }


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("builder-inited", _draw)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
