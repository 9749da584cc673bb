"""Studies made of independent cases: one results file each; finished ones are kept, a next call makes the rest."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from . import results

Case = Callable[[], Any]
"""Computes one case; what it returns is written as JSON."""


@dataclass(frozen=True)
class Finished:
    """A finished study as its page needs it."""

    config: dict[str, Any]
    results: dict[str, Any]
    """By case, in the study's order."""
    provenance: dict[str, Any]
    mixed: bool
    """Whether different versions of the code made them."""


def run_cases(
    out: Path,
    config: dict[str, Any],
    cases: Mapping[str, Case],
    modules: tuple[str, ...],
    ready: Callable[[], object] | None = None,
) -> None:
    """Compute the cases that have no valid results in `out` yet.

    Results of the same config made by the same code are kept; those of other code are made again; those of another
    config are an error: they are somebody's numbers, not ours to replace. `ready` is called before anything is made,
    if there is something to compute, and raises if what all cases need is not there.
    """
    source = results.source_digest(modules)
    todo = []
    for name in cases:
        path = _path(out, name)
        if path.exists():
            run = results.read_run(path)
            if odd := results.first_difference(config, run["config"]):
                raise ValueError(f"{path} holds another study ({odd}); choose another --out")
            if run["provenance"]["source"] == source:
                continue
        todo.append(name)
    if todo and ready is not None:
        ready()
    origin = results.provenance(modules)
    pause = 0.1 if sys.stderr.isatty() else 10.0
    with results.opened(out, {**config, "cases": list(cases)}) as write:
        for name in tqdm(todo, desc=config["name"], unit="case", mininterval=pause):
            found = {"format": results.FORMAT, "case": name, "config": config, "result": cases[name]()}
            write(_path(out, name), {**found, "provenance": origin})


def load_cases(out: Path) -> Finished:
    """The finished study in `out`; ValueError names what is missing."""
    config = results.read_json(out / "study.json")
    if not isinstance(config, dict) or "cases" not in config:
        raise ValueError(f"{out / 'study.json'} is not a study made of cases")
    found, origins = {}, []
    for name in config.pop("cases"):
        path = _path(out, name)
        if not path.exists():
            raise ValueError(f"{path} is missing: the study is not finished, run it again to continue")
        run = results.read_run(path)
        found[name] = run["result"]
        origins.append(run["provenance"])
    return Finished(config, found, origins[0], any(o["source"] != origins[0]["source"] for o in origins))


def _path(out: Path, name: str) -> Path:
    return out / "runs" / f"{name}.json"
