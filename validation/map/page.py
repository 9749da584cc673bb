"""From the finished cases to the page: the time to the target in every cell. Runs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cases import Finished, load_cases
from ..figures import drawing, svg
from ..measures import MARGIN, rounds_to, smooth, time_to
from ..page import Page, Table, write_page
from ..summary import SAVING, SHARE, Claim, Spread, verdict

FloatArray = NDArray[np.float64]


def write(out: Path) -> Path:
    """Draw the finished study in `out`; returns the path of its page."""
    finished = load_cases(out)
    return write_page(out, _page(finished), finished)


def time_share(run: dict[str, Any], reference: list[float]) -> float | None:
    """Joint scheme's time to the target over the reference's, in per cent; None if it never gets there.

    The target is what the reference ends with less `MARGIN`; the reference's rounds are of mean length.
    """
    target = float(smooth(reference)[-1]) - MARGIN
    took_s, rounds = time_to(run["accuracy"], run["time_s"], target), rounds_to(reference, target)
    return None if took_s is None or rounds is None else 100 * took_s / (rounds * run["unpruned_round_s"])


def _page(finished: Finished) -> Page:
    config = finished.config
    references = {run["seed"]: run["accuracy"] for run in finished.results.values() if "speed" not in run}
    cells: dict[tuple[float, float], list[dict[str, Any]]] = {
        (bandwidth, speed): [] for bandwidth in config["bandwidths_hz"] for speed in config["speeds"]
    }
    for run in finished.results.values():
        if "speed" in run:
            cells[run["bandwidth_hz"], run["speed"]].append(run)
    share = {
        at: Spread(tuple(time_share(r, references[r["seed"]]) for r in runs), possible=SHARE)
        for at, runs in cells.items()
    }
    good = {at: verdict(spread, lambda v: v <= 100 * SAVING) for at, spread in share.items()}
    everywhere = sum(v == "holds" for v in good.values())
    nowhere = sum(v == "does not hold" for v in good.values())
    claims = [
        Claim(
            f"{at[0] / 1e6:g} MHz, {at[1]:g} times the speed: the unpruned accuracy in at most {100 * SAVING:g} % of "
            "its time",
            share[at],
            0,
            "% of the unpruned scheme's time",
            good[at],
            f"Mean pruning ratio {np.mean([r['pruning_ratio'] for r in cells[at]]):.2f}, late rounds "
            f"{100 * np.mean([r['late'] for r in cells[at]]):.0f} %.",
            id=f"time-{at[0] / 1e6:g}MHz-{at[1]:g}",
        )
        for at in cells
    ]
    return Page(
        title="Where the saving holds",
        where=f"Bandwidth by compute speed; scikit-learn digits, seeds {', '.join(map(str, config['seeds']))}",
        answer=f"Of {len(cells)} combinations of bandwidth and compute speed, the joint scheme reaches the unpruned "
        f"accuracy in at most {100 * SAVING:g} % of the time on every seed in {everywhere}, on no seed in {nowhere}.",
        claims=claims,
        tables=[_table(config, cells, share)],
        figures=[(_drawing(config, share), "Time to the unpruned accuracy (within half a percentage point), mean over "
                  "seeds, in per cent of the unpruned scheme's; a dash where some seed never gets there in the time.")],
        limits=[
            "Digits, one model: the balance of upload and computing is that of this network. Half the speed acts like "
            "twice the work per bit.",
            "The deadline is 0.4 of the mean unpruned round of each cell, whatever that asks for. If it cannot be met"
            " even at the largest pruning ratio rounds are late and the time is charged.",
            "Crossing a threshold on a flat curve is noisy: on digits the headline itself holds on some seeds only.",
        ],
        command=f"python -m validation {config['name']}",
        numbers={"cells": [
            {"bandwidth_hz": at[0], "speed": at[1], "time_percent": share[at].to_dict(),
             "pruning_ratio": float(np.mean([r["pruning_ratio"] for r in runs])),
             "late": float(np.mean([r["late"] for r in runs]))}
            for at, runs in cells.items()
        ]},
    )  # fmt: skip


def _table(
    config: dict[str, Any],
    cells: dict[tuple[float, float], list[dict[str, Any]]],
    share: dict[tuple[float, float], Spread],
) -> Table:
    rows = []
    for speed in config["speeds"]:
        row = [f"{speed:g} times the speed"]
        for bandwidth in config["bandwidths_hz"]:
            ratio = np.mean([r["pruning_ratio"] for r in cells[bandwidth, speed]])
            mean = share[bandwidth, speed].mean
            row.append(f"{'never' if mean is None else f'{mean:.0f} %'}; {ratio:.2f}")
        rows.append(row)
    head = ["", *(f"{bandwidth / 1e6:g} MHz" for bandwidth in config["bandwidths_hz"])]
    return Table("Time to target over the unpruned scheme's; mean pruning ratio", head, rows)


def _drawing(config: dict[str, Any], share: dict[tuple[float, float], Spread]) -> str:
    bandwidths, speeds = config["bandwidths_hz"], config["speeds"]
    values = np.array([[share[b, s].mean or np.nan for b in bandwidths] for s in speeds], dtype=float)
    with drawing("map") as (figure, (axes,)):
        # Purple below one half, orange above: tells the two apart for every kind of sight; the numbers say it too.
        image = axes.imshow(values, cmap="PuOr_r", vmin=0, vmax=200 * SAVING, origin="lower", aspect="auto")
        for (i, j), value in np.ndenumerate(values):
            axes.text(j, i, f"{value:.0f}" if np.isfinite(value) else "–", ha="center", va="center", fontsize=11)
        axes.set_xticks(range(len(bandwidths)), [f"{b / 1e6:g}" for b in bandwidths])
        axes.set_yticks(range(len(speeds)), [f"{s:g}" for s in speeds])
        axes.set(xlabel="bandwidth (MHz)", ylabel="compute speed over that of the reports")
        axes.grid(visible=False)
        figure.colorbar(image, label="time to target (% of unpruned)")
        return svg(figure, "map", "Time to the target in per cent of the unpruned scheme's, bandwidth by speed")
