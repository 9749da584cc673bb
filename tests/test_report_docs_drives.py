"""What docs/report.md says of planned rounds on measured drives is what docs/results hold."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from report_docs import results_of, says, share_text

from validation.drives.tuned import CONFIG, TUNING


def drive_rows(entries: dict[str, Any]) -> list[str]:
    """A table of settings on measured drives: one a row, means over seeds."""
    rows = []
    for entry, of in entries.items():
        behind = np.array(of["behind"])
        took = _once(of) if len(behind) == 1 else share_text(of["tuned"]).partition(";")[0]
        rows.append(
            f"| {drive_title(entry)} | {took} | "
            f"{np.mean(of['round']):.0f} | {np.mean(of['floor']):.0f} | {0.0 - behind.mean():+.1f} |"
        )
    return rows


def drives_tried() -> dict[str, Any]:
    """Settings tried on the tuning seed."""
    found: dict[str, Any] = results_of("drives-tuning")["entries"]
    assert {of["reference"] for of in found.values()} == {"unpruned-rate3"}
    assert set(found) == {entry.name for entry in TUNING.entries}
    return found


def drives_text() -> str:
    """What the page says of the settings tried, of those that leave out the slowest phone, and of short rounds."""
    tried = drives_tried()
    short, few = tried["joint-covered-sparse-rate2-0.62"], tried["joint-covered-sparse-steps4and3-rate3"]
    took = {name: of["tuned"][0] or np.inf for name, of in tried.items()}
    best = {means: min((n for n in took if f"-{means}-" in n), key=lambda n: took[n]) for means in ("covered", "fill")}
    assert best == {"covered": "joint-covered-sparse-rate2", "fill": "joint-fill-sparse-rate2-0.66"}
    (worst,), (usual,) = short["worst"], tried["unpruned-rate3"]["worst"]
    return (
        f"The best takes {took[best['covered']]:.0f} % with covered means and {took[best['fill']]:.0f} % with means "
        f"over all. A deadline of 0.62 is shorter than the slowest phone can train: it is left out of every round "
        f"({short['participants'][0]:.1f} phones take part on the mean), its head never learns, and it ends at "
        f"{worst:.0f} % accuracy, where the worst phone of unpruned training has {usual:.0f} %. That, and not error "
        "feedback, costs the points there. Frozen rounds of 0.6 leave it out alike. Rounds of fewer steps are half as "
        f"long and need twice as many: {few['tuned'][0]:.0f} %."
    )


def _once(of: dict[str, Any]) -> str:
    (value,) = of["tuned"]
    return "never" if value is None else f"{value:.0f}"


def drive_title(entry: str) -> str:
    """What an entry's name says, in words."""
    found = re.fullmatch(
        r"(unpruned|joint-(covered|fill))(?:-(sparse|frozen))?(-feedback)?(?:-steps(\d)and(\d))?(?:-speed(\d+))?"
        r"-rate([\d.]+)(?:-([\d.]+))?",
        entry,
    )
    assert found is not None, entry
    _, means, kind, feedback, personal, dense, speed, rate, deadline = found.groups()
    words = (
        ["unpruned"]
        if means is None
        else [kind or "sparse or frozen", {"covered": "covered means", "fill": "means over all"}[means]]
    )
    return ", ".join([
        *words, f"rate {rate}", *([f"batches by speed, {speed} on the mean"] if speed else []),
        *([f"{personal} and {dense} steps"] if personal else []),
        *(["error feedback"] if feedback else []), *([f"deadline {deadline}"] if deadline else []),
    ])  # fmt: skip


def drives_reached(found: dict[str, Any]) -> list[str]:
    """How long planned rounds take, how far below they end, and how the worst phone does."""
    fill, covered = (next(of for n, of in found.items() if n.startswith(f"joint-{m}")) for m in ("fill", "covered"))
    unpruned = found[fill["reference"]]
    return [
        "Planned rounds reach the accuracy of tuned unpruned training, less half a point, in "
        f"{np.mean(fill['tuned']):.0f} % of its time with means over all and {np.mean(covered['tuned']):.0f} % with "
        f"covered means, at most {max(fill['tuned']):.0f} and {max(covered['tuned']):.0f} % on every seed.",
        f"They end {-max(fill['behind']):.1f} to {-min(fill['behind']):.1f} and {-max(covered['behind']):.1f} to "
        f"{-min(covered['behind']):.1f} points above it.",
        f"The worst phone ends at {np.mean(fill['worst']):.0f} and {np.mean(covered['worst']):.0f} %, that of "
        f"unpruned training at {np.mean(unpruned['worst']):.0f}.",
    ]


def test_planned_rounds_on_drives() -> None:
    found = results_of("drives")["entries"]
    assert set(found) == {entry.name for entry in CONFIG.entries}
    says(*drive_rows(found), *drives_reached(found))
    before = results_of("earlier/drives-670")["entries"]["joint-covered-sparse-rate2"]
    says(f"took {share_text(before['tuned']).partition(';')[0]} % with covered means")


def test_settings_tried_with_equal_batches() -> None:
    says(*drive_rows(drives_tried()), drives_text())
