"""The report: one self-contained HTML page and report.json, from results files alone."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from kktalloc._durable import write_durably

from . import figures
from .config import JOINT, REFERENCE, Study, to_dict
from .measures import MARGIN, WINDOW
from .results import FORMAT, write_json
from .schemes import SCHEMES
from .summary import (
    SAVING,
    Claim,
    Run,
    Spread,
    cards,
    claims,
    load_study,
    scheme_table,
    targets,
)

_MINUS = "−"


def write_report(out: Path) -> Path:
    """Draw the finished study in `out`; returns the path of its HTML page.

    Raises
    ------
    ValueError
        A results file is missing or broken.
    """
    study, runs = load_study(out)
    found, table = claims(runs), scheme_table(runs)
    page = environment().get_template("report.html.j2").render(_context(study, runs, found, table))
    write_json(
        out / "report.json",
        {
            "format": FORMAT,
            "study": to_dict(study),
            "claims": [claim.to_dict() for claim in found],
            "schemes": [{k: v.to_dict() if isinstance(v, Spread) else v for k, v in row.items()} for row in table],
            "provenance": runs[JOINT][0].raw["provenance"],
        },
    )
    path = out / "report.html"
    write_durably(path, page)
    return path


def environment() -> jinja2.Environment:
    """Templates with the filters they use."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "spread": spread_text,
        "percent": _percent_text,
        "milli": _milli_text,
        "interval": interval_text,
        "cards": cards,
        "mean": mean_text,
        "minus": minus,
    }
    return environment


def spread_text(spread: Spread, digits: int | None = 1, factor: float = 1.0) -> str:
    """``41.2 (38.0 to 44.1)``: mean, least and greatest over seeds.

    Where some seed has no value there is no mean: ``2 of 3 seeds (38.0 to 44.1)``.
    """
    values = factor * spread.values
    if not len(values):
        return "never"
    low, mean, high = (_number(v, digits) for v in (values.min(), values.mean(), values.max()))
    between = low if low == high else f"{low} to {high}"
    if not spread.complete:
        return f"{len(values)} of {len(spread.per_seed)} {spread.over} ({between})"
    return mean if low == high else f"{mean} ({between})"


def mean_text(spread: Spread, digits: int | None = 1) -> str:
    """``41.2``; where some seed has no value, on how many there is one."""
    if not len(spread.values):
        return f"no value on any of {len(spread.per_seed)} {spread.over}" if len(spread.per_seed) > 1 else "no value"
    if spread.mean is None:
        return f"a value on {len(spread.values)} of {len(spread.per_seed)} {spread.over}"
    return _number(spread.mean, digits)


def interval_text(spread: Spread, digits: int | None = 1) -> str:
    """``95 % interval 38.0 to 44.1``; where there is none, least and greatest value, or why there is nothing."""
    if spread.complete and spread.interval_95 is not None:
        low, high = (_number(v, digits) for v in spread.interval_95)
        same = low == high and len(spread.per_seed) > 1
        return f"{len(spread.per_seed)} values, all the same" if same else f"95 % interval {low} to {high}"
    if not len(spread.values):
        return "so no mean"
    low, high = (_number(v, digits) for v in (spread.values.min(), spread.values.max()))
    if spread.complete:
        return "one value" if len(spread.per_seed) == 1 else f"least {low}, greatest {high} over {spread.over}"
    return f"so no mean; there {low}" + ("" if low == high else f" to {high}")


def minus(text: str) -> str:
    """A text with the minus sign before its negative numbers; hyphens in names and ranges stay."""
    return re.sub(r"(?<![\w.)\]-])-(?=\.?\d)", _MINUS, text)


def _number(value: float, digits: int | None) -> str:
    text = f"{value:.0e}" if digits is None else f"{value:.{digits}f}"
    return text.replace("-", _MINUS)


def _percent_text(spread: Spread, digits: int = 1) -> str:
    return spread_text(spread, digits, 100.0)


def _milli_text(spread: Spread) -> str:
    """A thousand times the value, to three significant figures of the largest."""
    largest = 1e3 * float(spread.values.max()) if len(spread.values) else 1.0
    return spread_text(spread, max(0, 2 - math.floor(math.log10(largest))), 1e3)


def _context(
    study: Study, runs: dict[str, list[Run]], found: list[Claim], table: list[dict[str, Any]]
) -> dict[str, Any]:
    first = runs[JOINT][0]
    origins = [run.raw["provenance"] for each in runs.values() for run in each]
    return {
        "study": study,
        "data_title": figures.TITLES.get(study.training.dataset, study.training.dataset),
        "answer": _answer(study, found),
        "holds": found[0].verdict == "holds",
        "claims": found,
        "table": table,
        "devices": _device_rows(runs),
        "figures": {
            "time": figures.accuracy_over_time(runs, targets(runs)),
            "rounds": figures.accuracy_over_rounds(runs),
            "latency": figures.round_latency(runs),
            "composition": figures.latency_composition(runs),
            "pruning": figures.per_device(runs, "pruning_ratio"),
            "bandwidth": figures.per_device(runs, "bandwidth_hz"),
            "power": figures.per_device(runs, "tx_power_w"),
        },
        "margin_pp": f"{100 * MARGIN:g}",
        "window": WINDOW,
        "deadlines_s": Spread(tuple(run.deadline_s for run in runs[JOINT])),
        "tx_power_max_mw": 10 ** (study.radio.tx_power_dbm / 10),
        "held_out_samples": first.raw["held_out_samples"],
        "global_parameters": first.raw["global_parameters"],
        "personal_parameters": first.raw["personal_parameters"],
        "upload_share": _mean_share(runs[REFERENCE], "upload_s"),
        "energy_peak_j": max(float(run.allocation["energy_j"].max()) for each in runs.values() for run in each),
        "origin": origins[0],
        "mixed": any(o["source"] != origins[0]["source"] for o in origins),
        "command": _command(study),
        "settings": settings(to_dict(study)),
    }


def _answer(study: Study, found: list[Claim]) -> str:
    """The claims of time and the comparisons in words, means and ranges before verdicts."""
    named = {claim.id: claim for claim in found}
    time, at_half = named["time-half"], named["at-half"]
    against = {s: named[f"faster-{s}"] for s in study.schemes if f"faster-{s}" in named}
    beaten, others = (
        [SCHEMES[s].title for s, claim in against.items() if (claim.verdict == "holds") == every]
        for every in (True, False)
    )
    rivals = (f" On every seed it learns faster than {_listed(beaten)}." if beaten else "") + (
        f" Not on every seed does it learn faster than {_listed(others)}." if others else ""
    )
    return (
        "Pruning and radio resources allocated together reach the accuracy of unpruned personalised training, within "
        f"{100 * MARGIN:g} percentage point, in {_in_percent(time.measured)} of its simulated time (mean, range over "
        f"seeds); at most {100 * SAVING:g} % {_for_how_many(time, len(study.seeds))}. "
        f"After {100 * SAVING:g} % of the unpruned run's time they are {spread_text(at_half.measured, 2)} percentage "
        f"points from where it ends. Against equal shares at the same deadline: "
        f"{_in_percent(named['sooner-equal'].measured)} of the time to that accuracy, "
        f"worst phone {spread_text(named['worst-phone'].measured, 1)} percentage points. "
        f"Energy per phone and round: {_in_percent(named['energy-equal'].measured)} of what equal shares spend, "
        f"{_in_percent(named['energy-unpruned'].measured)} of what unpruned training spends." + rivals
    )


def _in_percent(spread: Spread) -> str:
    """``56 % (47 to 69)``, of values that are percentages."""
    if not len(spread.values):
        return "no finite share"
    if not spread.complete:
        between = " to ".join(_number(v, 0) for v in (spread.values.min(), spread.values.max()))
        return f"{between} % (on {len(spread.values)} of {len(spread.per_seed)} seeds, on the others never)"
    mean, blank, between = spread_text(spread, 0).partition(" ")
    return f"{mean} %{blank}{between}"


def _listed(names: list[str]) -> str:
    """``a, b and c``, as names in quotes."""
    quoted = [f"“{name}”" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def _for_how_many(claim: Claim, seeds: int) -> str:
    """``on 1 of 3 seeds``."""
    if claim.verdict in ("holds", "does not hold"):
        return f"on {'all' if claim.verdict == 'holds' else 'none'} of {seeds} seeds"
    return claim.verdict.replace("holds for", "on")


def _mean_share(each: list[Run], part: str) -> float:
    """Share of the slowest path's mean time that one part takes, over seeds, rounds and devices."""
    return float(np.mean([(run.allocation[part] / run.latency_s[:, None]).mean() for run in each]))


def _device_rows(runs: dict[str, list[Run]]) -> list[dict[str, Any]]:
    """The phones of the first seed, best channel first, with what the joint allocation gave them on average."""
    run = runs[JOINT][0]
    radio = run.raw["config"]["radio"]
    mean = {name: values.mean(axis=0) for name, values in run.allocation.items() if values.ndim == 2}
    gain_db = 10 * np.log10(run.phones["channel_gain"].mean(axis=0))
    return [
        {
            "device": int(k),
            "distance_m": float(run.phones["distance_m"][k]),
            "gain_db": float(gain_db[k]),
            "gflop_per_s": radio["clock_hz"] / float(run.phones["cycles_per_flop"][k]) / 1e9,
            "pruning_ratio": float(mean["pruning_ratio"][k]),
            "bandwidth_mhz": float(mean["bandwidth_hz"][k]) / 1e6,
            "power_mw": float(mean["tx_power_w"][k]) * 1e3,
            "energy_mj": float(mean["energy_j"][k]) * 1e3,
        }
        for k in figures.device_order(run)
    ]


def _command(study: Study) -> str:
    """The command that runs this study again, from the fields that the command line offers."""
    default = Study()
    words = [f"python -m validation {study.name} --dataset {study.training.dataset}"]
    if study.training.dataset != "digits":
        words.append("--data-dir DIR")
    words += [f"--rounds {study.training.rounds}", f"--seeds {len(study.seeds)}"]
    if study.deadline_fraction != default.deadline_fraction:
        words.append(f"--deadline-fraction {study.deadline_fraction:g}")
    return " ".join(words)


def settings(config: dict[str, Any]) -> list[tuple[str, str]]:
    """Every field of a config, flat, as text."""
    rows = []
    for name, value in config.items():
        for key, entry in value.items() if isinstance(value, dict) else [("", value)]:
            text = ", ".join(map(str, entry)) if isinstance(entry, list) else "none" if entry is None else str(entry)
            rows.append((f"{name}.{key}" if key else name, text))
    return rows
