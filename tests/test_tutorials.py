"""Every tutorial runs from top to bottom, and prints what its page says.

``python tests/test_tutorials.py`` runs them all and writes what they print into the pages.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [path for path in sorted((DOCS / "tutorials").glob("*.md")) if path.stem != "index"]
# A block of Python, and what it prints if it does.
BLOCK = re.compile(r"```python\n(?P<code>.*?)```\n(?:\n```text\n(?P<said>.*?)```\n)?", flags=re.DOTALL)

NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d*)?(?:e[+-]?\d+)?")


def run(page: Path) -> list[tuple[str, str]]:
    """Code and output of every block, all in one namespace."""
    names: dict[str, Any] = {"__name__": "tutorial"}
    done = []
    for found in BLOCK.finditer(page.read_text(encoding="utf-8")):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(found["code"], str(page), "exec"), names)
        done.append((found["code"], out.getvalue()))
    return done


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_it_prints_what_it_says(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = [found["said"] or "" for found in BLOCK.finditer(page.read_text(encoding="utf-8"))]
    printed = [output for _, output in run(page)]
    assert len(printed) >= 1
    # What training gives depends on the processor's arithmetic, a little more each round; everything else does not.
    close = 0.5 if page.stem == "train" else 1e-9
    for ours, theirs in zip(printed, said, strict=True):
        assert NUMBER.sub("#", ours) == NUMBER.sub("#", theirs)
        found, expected = ([float(n) for n in NUMBER.findall(text)] for text in (ours, theirs))
        np.testing.assert_allclose(found, expected, rtol=close)


def test_pictures_of_the_gallery_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    gallery = DOCS / "gallery.md"
    run(gallery)
    shown = set(re.findall(r"\(gallery/([\w-]+\.svg)\)", gallery.read_text(encoding="utf-8")))
    assert shown == {path.name for path in tmp_path.glob("*.svg")}
    assert len(shown) >= 5


def test_the_example_trains_with_the_allocator() -> None:
    """The 40 lines of a user with arrays, a network and a split of their own."""
    script = DOCS.parent / "examples" / "train_with_allocator.py"
    assert len(script.read_text().splitlines()) <= 40
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    unpruned, planned = (float(s) for s in re.findall(r"80 % after ([\d.]+) s", done.stdout))
    assert planned < 0.5 * unpruned


def write() -> None:
    """Put what every tutorial prints into its page."""
    for page in PAGES:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            outputs = iter([output for _, output in run(page)])
        page.write_text(with_outputs(page.read_text(encoding="utf-8"), outputs), encoding="utf-8")


def with_outputs(text: str, outputs: Iterator[str]) -> str:
    """The page with each block followed by what it prints."""

    def block(found: re.Match[str]) -> str:
        printed = next(outputs)
        return f"```python\n{found['code']}```\n" + (f"\n```text\n{printed}```\n" if printed else "")

    return BLOCK.sub(block, text)


if __name__ == "__main__":
    write()
