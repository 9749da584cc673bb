"""A results folder that several studies find at once, and one that is not there any more."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from validation import results
from validation.cases import load_cases, run_cases

CONFIG: dict[str, Any] = {"name": "made up", "seeds": [1]}


def _run(out: Path, case: Any, config: dict[str, Any] | None = None) -> None:
    run_cases(out, config or CONFIG, {"one": case, "two": lambda: 2}, ())


def _stop() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("other", [CONFIG, {**CONFIG, "seeds": [2]}], ids=["same", "another"])
@pytest.mark.parametrize("folder", ["a", "a/b/c"])
def test_what_is_interrupted_before_its_first_result_leaves_the_folder_to_others(
    tmp_path: Path, other: dict[str, Any], folder: str
) -> None:
    out = tmp_path / folder

    def second() -> int:
        first.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        return 1

    first = results.opened(out, CONFIG)
    first.__enter__()
    _run(out, second, other)
    finished = load_cases(out)
    assert finished.results == {"one": 1, "two": 2}
    assert finished.config == other


def test_a_folder_that_somebody_removes_is_made_again(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def case() -> int:
        shutil.rmtree(out)
        return 1

    _run(out, case)
    assert load_cases(out).results == {"one": 1, "two": 2}


def test_nothing_stays_of_what_had_no_result(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path / "a" / "b", _stop)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path / "mine", _stop)
    assert (tmp_path / "mine").exists()


def test_numbers_of_another_study_that_came_meanwhile_are_not_replaced(tmp_path: Path) -> None:
    out, other = tmp_path / "out", {**CONFIG, "seeds": [2]}

    def case() -> int:
        _run(out, lambda: 1, other)
        return 3

    with pytest.raises(ValueError, match=r"one\.json has meanwhile .* \(seeds is \[2\], not \[1\]\)"):
        _run(out, case)
    assert results.read_run(out / "runs" / "one.json")["result"] == 1


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "\udcff"])
def test_broken_results_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(ValueError, match=r"x\.json is not JSON"):
        results.read_json(path)
