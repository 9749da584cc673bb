"""The tolerances that the kernel shares with the Python side are the same numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kktalloc._problem import tolerances

KERNEL = Path(tolerances.__file__).parents[1] / "kernel"
SHARED = {  # name in C, file that defines it, name in Python
    ("Q_ULP", "judge"): "KEEP_RATIO",
    ("ROUNDING", "judge"): "RESOLVED",
    ("ROUNDING", "solve"): "FEASIBLE",
    ("CLOSED", "solve"): "FILLED_EXACTLY",
    ("FILLED", "capped"): "FILLED",
    ("FILLED_EXACTLY", "capped"): "FILLED_EXACTLY",
    ("WITHIN", "capped"): "FEASIBLE",
    ("FILLED", "floors"): "FILLED",
    ("WITHIN", "floors"): "FEASIBLE",
    ("LEVEL", "floors"): "LEVEL",
    ("LOOSE", "floors"): "LOOSE_GAP",
}


def defined(name: str, stem: str) -> list[float]:
    files = [path for path in KERNEL.glob("*.[ch]") if path.stem == stem]
    assert files, stem
    pattern = re.compile(rf"^#define {name} +([0-9.e+-]+)", re.MULTILINE)
    return [float(value) for path in files for value in pattern.findall(path.read_text())]


@pytest.mark.parametrize(("in_c", "in_python"), list(SHARED.items()))
def test_the_kernel_has_the_same(in_c: tuple[str, str], in_python: str) -> None:
    assert defined(*in_c) == [getattr(tolerances, in_python)]


def test_each_has_a_sentence() -> None:
    lines = Path(tolerances.__file__).read_text().splitlines()
    for name in (n for n in vars(tolerances) if n.isupper()):
        at = next(i for i, line in enumerate(lines) if line.startswith(f"{name} = "))
        while lines[at - 1].partition(" = ")[0].isupper():  # neighbours share one
            at -= 1
        assert lines[at - 1].startswith("# "), name
