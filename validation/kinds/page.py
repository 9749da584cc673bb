"""From the finished cases to the page: who wins in every cell, and what the planner chose. Runs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..cases import Finished, load_cases
from ..figures import drawing, legend_above, svg
from ..measures import MARGIN, mean_interval, smooth, time_to
from ..page import Page, Table, write_page
from ..summary import SHARE, Claim, Spread, verdict
from .study import CHOSEN, UNPRUNED

WITHIN = 1.1
"""The planner's time over that of the best swept deadline, at most."""
Cell = tuple[float, float]
Shares = dict[Cell, dict[str, tuple[float | None, ...]]]


def write(out: Path) -> Path:
    """Draw the finished study in `out`; returns the path of its page."""
    finished = load_cases(out)
    return write_page(out, _page(finished), finished)


def shares(finished: Finished, margin: float = MARGIN) -> Shares:
    """By cell and entry, per seed: time to the unpruned accuracy less `margin` over the unpruned scheme's, per cent."""
    runs = list(finished.results.values())
    unpruned = {(_at(run), run["seed"]): run for run in runs if run["entry"] == UNPRUNED.name}
    found: dict[Cell, dict[str, dict[int, float | None]]] = {}
    for run in runs:
        if run["entry"] == UNPRUNED.name:
            continue
        whole = unpruned[_at(run), run["seed"]]
        target = float(smooth(whole["accuracy"])[-1]) - margin
        took_s, whole_s = (time_to(of["accuracy"], of["time_s"], target) for of in (run, whole))
        share = None if took_s is None or whole_s is None else 100 * took_s / whole_s
        found.setdefault((run["bandwidth_hz"], run["speed"]), {}).setdefault(run["entry"], {})[run["seed"]] = share
    return {
        at: {name: tuple(of[seed] for seed in sorted(of)) for name, of in entries.items()}
        for at, entries in found.items()
    }


def _mean(values: tuple[float | None, ...]) -> float:
    return float(np.mean([np.inf if value is None else value for value in values]))


def planned(of: dict[str, tuple[float | None, ...]]) -> float:
    """The planner's mean time over seeds."""
    return _mean(of[CHOSEN.name])


def best(of: dict[str, tuple[float | None, ...]], kind: str = "") -> str:
    """The swept entry with the least mean time; of one kind of round, if named."""
    names = [name for name in of if name != CHOSEN.name and (not kind or kind_of(name) == kind)]
    return min(names, key=lambda name: _mean(of[name]))


def regret(found: Shares) -> dict[Cell, float]:
    """By cell: the planner's time over that of the best swept entry."""
    return {at: planned(of) / _mean(of[best(of)]) for at, of in sorted(found.items())}


def regret_on_others(found: Shares) -> dict[Cell, float]:
    """By cell: the planner's time over that of the entry which is best on the other seeds, taken seed by seed."""
    ratios = {}
    for at, of in sorted(found.items()):
        theirs = []
        for seed in range(len(of[CHOSEN.name])):
            others = {name: values[:seed] + values[seed + 1 :] for name, values in of.items()}
            theirs.append(of[best(others)][seed])
        ratios[at] = planned(of) / _mean(tuple(theirs))
    return ratios


def kind_of(name: str) -> str:
    """Kind of round of a swept entry."""
    return next((kind for kind in ("zeroed", "frozen") if f"-{kind}-" in name), "sparse")


def _planned(found: Shares) -> Spread:
    """The planner's times over all cells and seeds."""
    times = (value for _, of in sorted(found.items()) for value in of[CHOSEN.name])
    return Spread(tuple(times), over="cells and seeds", possible=SHARE)


def _cell_means(found: Shares) -> Spread:
    """The planner's mean time of each cell."""
    means = (planned(of) for _, of in sorted(found.items()))
    return Spread(tuple(value if np.isfinite(value) else None for value in means), over="cells", possible=SHARE)


def _never_slower_on_the_mean(found: Shares) -> Claim:
    """That planned rounds are slower than unpruned ones in no cell, mean over seeds."""
    spread = _cell_means(found)
    spans = [mean_interval(of[CHOSEN.name]) for of in found.values()]
    apart = sum(span is not None and span[1] < 100.0 for span in spans)
    return Claim(
        "The planner is slower than unpruned training in no cell, mean over seeds",
        spread,
        0,
        "% of the unpruned scheme's time to its accuracy, mean over seeds, one value per cell",
        verdict(spread, lambda v: v <= 100.0),
        f"The 95 % interval of the mean ends below 100 in {apart} of {len(spans)} cells.",
        id="never-slower-mean",
    )


def _never_slower(found: Shares, to: str, less: str, note: str, suffix: str = "") -> Claim:
    """That planned rounds are never slower than unpruned ones; `to` and `less` name the margin, if it is the wider."""
    worst = _planned(found)
    return Claim(
        f"The planner is on no seed slower than unpruned training{to}",
        worst,
        0,
        f"% of the unpruned scheme's time to its accuracy{less}, over all cells and seeds",
        verdict(worst, lambda v: v <= 100.0),
        note,
        id=f"never-slower{suffix}",
    )


def _within_best(found: Shares, to: str = "", suffix: str = "") -> list[Claim]:
    """That the planner comes close to the best swept entry: of the same seeds, and picked on the others."""
    return [
        Claim(
            f"Its time is within 10 % of the best kind and deadline that were swept{to}{which}",
            spread := Spread(
                tuple(v if np.isfinite(v) else None for v in ratios.values()), over="cells", possible=SHARE
            ),
            2,
            "times the best swept one's, one value per cell",
            verdict(spread, lambda v: v <= WITHIN),
            note,
            id=f"within-best{name}{suffix}",
        )
        for ratios, which, note, name in (
            (regret(found), "", "The best is picked after the fact, which favours it.", ""),
            (regret_on_others(found), ", picked on the other seeds",
             "No seed takes part in picking what it is judged by.", "-others"),
        )
    ]  # fmt: skip


def _page(finished: Finished) -> Page:
    found = shares(finished)
    runs = list(finished.results.values())
    cells = sorted(found)
    wins = {at: best(found[at]) for at in cells}
    ratio, wide = regret(found), shares(finished, 2 * MARGIN)
    chosen = {at: _chosen_kind(runs, at) for at in cells}
    lengths = {at: _lengths(runs, at) for at in cells}
    means = _cell_means(found)
    right = sum(chosen[at] == kind_of(wins[at]) for at in cells)
    claims = [
        _never_slower(found, "", "", "Unpruned training at the same server rate, which is the tuned one of both."),
        _never_slower(wide, ", to one point", " less a point", "Half a point is a few held-out images.", "-wide"),
        _never_slower_on_the_mean(found),
        *_within_best(found),
        *_within_best(wide, ", to one point", "-wide"),
        Claim(
            "It takes the kind of round that wins",
            Spread((float(right),)),
            0,
            f"of {len(cells)} cells",
            "holds" if right == len(cells) else "does not hold",
            "Frozen or sparse; zeroed rounds are not among its choices.",
            id="right-kind",
        ),
    ]
    rows = [
        [
            _named(at),
            f"{_text((planned(found[at]),))}, {chosen[at]}",
            f"{lengths[at][CHOSEN.name]:.2f}",
            *(f"{_text(found[at][name])} at {lengths[at][name]:.2f}"
              for name in (best(found[at], kind) for kind in ("sparse", "frozen", "zeroed"))),
            f"{100 * np.mean([r['floor'] for r in runs if _at(r) == at]):.0f}",
        ]
        for at in cells
    ]  # fmt: skip
    seeds = sorted({run["seed"] for run in runs})
    return Page(
        title="Which kind of round wins where",
        where=f"Fashion-MNIST, MLP, ten phones, bandwidth by compute speed, seeds {', '.join(map(str, seeds))}",
        answer=f"Over {len(cells)} cells the planner takes {_least_most(means)} of the unpruned scheme's time to its "
        f"accuracy, mean over seeds, {min(ratio.values()):.2f} to {max(ratio.values()):.2f} times the time of the best "
        f"kind and deadline swept, and the kind that wins in {right} of {len(cells)}.",
        claims=claims,
        tables=[
            Table(
                "Time to the unpruned accuracy over the unpruned scheme's, per cent, mean over seeds: as planned, with "
                "the kind that was planned most; the mean planned round over the mean unpruned one; the best swept "
                "setting of each kind, at its mean round over the mean unpruned one; "
                "what cannot be pruned of sparse rounds, per cent of an unpruned round",
                ["", "planned", "round", "sparse", "frozen", "zeroed", "floor"],
                rows,
            )
        ],
        figures=[(_drawing(found, cells), "Time to the target in every cell: as planned, and the best swept deadline "
                  "of each kind of round.")],
        limits=[
            f"{len(seeds)} seeds, one model.",
            "Deadlines are swept coarsely; where none of the grid suits a cell the best there is was missed. A round "
            "that is not possible by its deadline is as short as it can be.",
            f"Planned training has {finished.config['cell']['pruned_rounds']} rounds, unpruned "
            f"{finished.config['cell']['rounds']}: where rounds are hardly shorter it has more time.",
            "All schemes take the server rate that suits unpruned training.",
        ],
        command="python -m validation kinds --data-dir DIR",
        numbers={"cells": [
            {"bandwidth_hz": at[0], "speed": at[1], "time_percent": found[at], "chosen": chosen[at],
             "round": lengths[at], "best": wins[at]}
            for at in cells
        ]},
    )  # fmt: skip


def _at(run: dict[str, Any]) -> Cell:
    return run["bandwidth_hz"], run["speed"]


def _chosen_kind(runs: list[dict[str, Any]], at: Cell) -> str:
    """The kind that most of the planned rounds of a cell were of."""
    total: dict[str, int] = {}
    for run in runs:
        if run["entry"] == CHOSEN.name and _at(run) == at:
            for kind, count in run["kinds"].items():
                total[kind] = total.get(kind, 0) + count
    return max(total, key=lambda kind: total[kind])


def _lengths(runs: list[dict[str, Any]], at: Cell) -> dict[str, float]:
    """By entry: its mean round in this cell over the mean unpruned one, mean over seeds."""
    found: dict[str, list[float]] = {}
    for run in runs:
        if _at(run) == at:
            over = run["time_s"][-1] / len(run["time_s"]) / run["unpruned_round_s"]
            found.setdefault(run["entry"], []).append(over)
    return {name: float(np.mean(over)) for name, over in found.items()}


def _named(at: Cell) -> str:
    return f"{at[0] / 1e6:g} MHz, {at[1]:g} times the speed"


def _text(values: tuple[float | None, ...]) -> str:
    mean = _mean(values)
    return f"{mean:.0f}" if np.isfinite(mean) else "never on some seed"


def _least_most(spread: Spread) -> str:
    values = spread.values
    return f"{values.min():.0f} to {values.max():.0f} %" + ("" if spread.complete else " (in some cell never)")


def _drawing(found: Shares, cells: list[Cell]) -> str:
    bars = {"planned": ("#009E73", ""), "sparse": ("#0072B2", "////"), "frozen": ("#E69F00", "...."),
            "zeroed": ("#999999", "xxxx")}  # fmt: skip
    with drawing("kinds", (4.8, 3.8)) as (figure, (axes,)):
        for i, (kind, (colour, hatch)) in enumerate(bars.items()):
            names = [CHOSEN.name if kind == "planned" else best(found[at], kind) for at in cells]
            height = [
                planned(found[at]) if kind == "planned" else _mean(found[at][name])
                for at, name in zip(cells, names, strict=True)
            ]
            height = [value if np.isfinite(value) else 0.0 for value in height]
            axes.bar(np.arange(len(cells)) + 0.2 * (i - 1.5), height, 0.2, label=kind, color=colour, hatch=hatch,
                     edgecolor="white")  # fmt: skip
        axes.axhline(100, color="#555555", lw=0.9)
        axes.set_xticks(range(len(cells)), [f"{b / 1e6:g} MHz\nx {s:g}" for b, s in cells], fontsize=7.5)
        axes.set_ylabel("time to target (% of unpruned)")
        legend_above(figure, axes, 4)
        return svg(figure, "kinds", "Time to the target per cell, as planned and by kind of round")
