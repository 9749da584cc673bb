"""From results files to numbers with their spread, and from those to claims with a verdict. No training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .config import EQUAL, JOINT, REFERENCE, Study, from_dict
from .measures import MARGIN, WINDOW, mean_interval, rounds_to, smooth, time_averages, time_to
from .results import read_json, read_run, run_path
from .schemes import SCHEMES

FloatArray = NDArray[np.float64]

SAVING, AIM = 0.5, 0.4
"""Shares of the reference's simulated time that claims allow: one, and a smaller one."""
SHARE, CORRELATION = (0.0, math.inf), (-1.0, 1.0)
"""What a share of something positive can be, and a correlation."""


@dataclass(frozen=True)
class Run:
    """One run as the report needs it; R rounds, K devices."""

    scheme: str
    seed: int
    time_s: FloatArray
    """(R,) simulated time at the end of each round."""
    latency_s: FloatArray
    """(R,) the slowest device's."""
    accuracy: FloatArray
    """(R,) mean over devices of the accuracy on their own held-out data."""
    worst_accuracy: FloatArray
    """(R,) of the device with the lowest."""
    allocation: dict[str, FloatArray]
    """The fields of `schemes.Allocation`, (R, K) unless stated there."""
    phones: dict[str, FloatArray]
    deadline_s: float
    raw: dict[str, Any]

    @property
    def smoothed(self) -> FloatArray:
        """(R,) accuracy averaged over the last `WINDOW` rounds (fewer at the start)."""
        return smooth(self.accuracy)

    def time_to(self, target: float) -> float | None:
        """Simulated seconds until the smoothed accuracy first reaches `target`; None if it never does."""
        return time_to(self.accuracy, self.time_s, target)

    def rounds_to(self, target: float) -> int | None:
        """Like `time_to`, in rounds."""
        return rounds_to(self.accuracy, target)

    def accuracy_at(self, time_s: float) -> float | None:
        """Smoothed accuracy of the last round that ended by then; None before the first."""
        done = np.flatnonzero(self.time_s <= time_s * (1 + 1e-9))
        return float(self.smoothed[done[-1]]) if len(done) else None


def load_run(path: Path) -> Run:
    """A results file as a `Run`."""
    raw = read_run(path)
    allocation = {name: np.asarray(value) for name, value in raw["allocation"].items()}
    latency = sum(allocation[part] for part in ("broadcast_s", "local_s", "pruned_s", "upload_s"))
    accuracy = np.array([record["accuracy_per_device"] for record in raw["history"]], dtype=float)
    slowest = np.asarray(latency).max(axis=-1)
    return Run(
        scheme=raw["scheme"],
        seed=raw["seed"],
        time_s=np.cumsum(slowest),
        latency_s=slowest,
        accuracy=accuracy.mean(axis=-1),
        worst_accuracy=accuracy.min(axis=-1),
        allocation=allocation,
        phones={name: np.asarray(value) for name, value in raw["phones"].items()},
        deadline_s=raw["deadline_s"],
        raw=raw,
    )


def load_study(out: Path) -> tuple[Study, dict[str, list[Run]]]:
    """The study in a results folder and its runs by scheme, in seed order; ValueError names what is missing."""
    study: Study = from_dict(Study, read_json(out / "study.json"))
    runs: dict[str, list[Run]] = {scheme: [] for scheme in study.schemes}
    for scheme in study.schemes:
        for seed in study.seeds:
            path = run_path(out, scheme, seed)
            if not path.exists():
                raise ValueError(f"{path} is missing: the study is not finished, run it again to continue")
            runs[scheme].append(load_run(path))
    return study, runs


@dataclass(frozen=True)
class Spread:
    """One number per seed; None where a run did not get there."""

    per_seed: tuple[float | None, ...]
    over: str = "seeds"
    """What there is one number each of, where it is not seeds."""
    possible: tuple[float, float] = (-math.inf, math.inf)
    """The least and the most that such a number can be."""
    own_interval_95: tuple[float, float] | None = None
    """Found otherwise than by Student's t: seeds drawn with replacement, or Fisher's z."""

    @property
    def complete(self) -> bool:
        """Whether every seed has a value."""
        return None not in self.per_seed

    @property
    def values(self) -> FloatArray:
        """The values there are."""
        return np.array([v for v in self.per_seed if v is not None])

    @property
    def mean(self) -> float | None:
        """Mean over seeds; None unless complete, as a mean of the lucky ones would flatter."""
        return float(self.values.mean()) if self.complete else None

    @property
    def interval_95(self) -> tuple[float, float] | None:
        """95 % interval, of the mean unless another was found; None where it would leave what is possible.

        Student's t knows nothing of bounds: of few seeds it can reach below a share of 0 or above a correlation of 1.
        """
        found = self.own_interval_95 or mean_interval(self.per_seed)
        least, most = self.possible
        return None if found is None or found[0] < least or found[1] > most else found

    def to_dict(self) -> dict[str, Any]:
        """For report.json; `from_dict` reads it."""
        present = self.values
        bounds = [bound if math.isfinite(bound) else None for bound in self.possible]
        return {
            "mean": self.mean,
            "min": float(present.min()) if len(present) else None,
            "max": float(present.max()) if len(present) else None,
            "interval_95": self.interval_95,
            "per_seed": list(self.per_seed),
            **({} if self.over == "seeds" else {"over": self.over}),
            **({} if bounds == [None, None] else {"possible": bounds}),
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Spread:
        """What `to_dict` wrote, or older code, which knew fewer fields."""
        least, most = stored.get("possible") or (None, None)
        interval = stored.get("interval_95")
        return cls(
            tuple(stored["per_seed"]),
            stored.get("over", "seeds"),
            (-math.inf if least is None else least, math.inf if most is None else most),
            None if interval is None else (interval[0], interval[1]),
        )


@dataclass(frozen=True)
class Claim:
    """One row of the answer."""

    statement: str
    measured: Spread
    digits: int | None
    """Decimals that are worth reading; None for a power of ten."""
    unit: str
    verdict: str
    """"holds", "does not hold", "holds for 2 of 3 seeds", or "given" for what is an input."""
    note: str
    id: str
    """By which texts and tests find it; no two of a study are the same."""

    def __post_init__(self) -> None:
        if not self.id:
            raise ValueError(f"claim {self.statement!r:.60} has no id")

    def to_dict(self) -> dict[str, Any]:
        """For report.json."""
        return {
            "id": self.id,
            "statement": self.statement,
            "measured": self.measured.to_dict(),
            "unit": self.unit,
            "verdict": self.verdict,
            "note": self.note,
        }


def over_seeds(runs: list[Run], value: Callable[[Run], float | None]) -> Spread:
    """`value` of each run."""
    return Spread(tuple(value(run) for run in runs))


def targets(runs: dict[str, list[Run]]) -> list[float]:
    """Per seed: the accuracy that the unpruned reference ends with, less `MARGIN`."""
    return [float(run.smoothed[-1]) - MARGIN for run in runs[REFERENCE]]


def scheme_table(runs: dict[str, list[Run]]) -> list[dict[str, Any]]:
    """One row per scheme; every value is a `Spread` over seeds."""
    goal = {run.seed: target for run, target in zip(runs[REFERENCE], targets(runs), strict=True)}
    columns: dict[str, Callable[[Run], float | None]] = {
        "final_accuracy": lambda run: float(run.smoothed[-1]),
        "final_worst_accuracy": _final_worst,
        "round_s": lambda run: float(run.latency_s.mean()),
        "round_p95_s": lambda run: float(np.quantile(run.latency_s, 0.95)),
        "time_to_target_s": lambda run: run.time_to(goal[run.seed]),
        "rounds_to_target": lambda run: run.rounds_to(goal[run.seed]),
        "pruning_ratio": lambda run: float(run.allocation["pruning_ratio"].mean()),
        "energy_j": _energy_j,
        "late_rounds": lambda run: float(run.allocation["late"].mean()),
    }
    return [
        {
            "scheme": scheme,
            "title": SCHEMES[scheme].title,
            "summary": SCHEMES[scheme].summary,
            **{name: over_seeds(runs[scheme], value) for name, value in columns.items()},
        }
        for scheme in runs
    ]


def claims(runs: dict[str, list[Run]]) -> list[Claim]:
    """What the report answers first."""
    goal = {run.seed: target for run, target in zip(runs[REFERENCE], targets(runs), strict=True)}

    def paired(other: str, value: Callable[[Run, Run], float | None]) -> Spread:
        """`value` of the joint scheme's run and the other's at the same seed."""
        return Spread(tuple(value(a, b) for a, b in zip(runs[JOINT], runs[other], strict=True)))

    def share(other: str, value: Callable[[Run, Run], float | None]) -> Spread:
        """The same of a `value` that is never below 0."""
        return replace(paired(other, value), possible=SHARE)

    margin_pp, saving_percent = 100 * MARGIN, 100 * SAVING
    time = share(REFERENCE, lambda a, b: _percent(a.time_to(goal[a.seed]), b.time_to(goal[b.seed])))
    at_half = paired(REFERENCE, lambda a, b: _points(a.accuracy_at(SAVING * b.time_s[-1]), float(b.smoothed[-1])))
    latency = share(REFERENCE, lambda a, b: _percent(float(a.latency_s.mean()), float(b.latency_s.mean())))
    sooner = share(EQUAL, lambda a, b: _percent(a.time_to(goal[a.seed]), b.time_to(goal[b.seed])))
    worst_phone = paired(EQUAL, lambda a, b: _points(_final_worst(a), _final_worst(b)))
    energy = share(EQUAL, lambda a, b: _percent(_energy_j(a), _energy_j(b)))
    energy_unpruned = share(REFERENCE, lambda a, b: _percent(_energy_j(a), _energy_j(b)))
    pruned = paired(EQUAL, lambda a, b: float(_ratio(a).mean() - _ratio(b).mean()))
    residual = Spread(tuple(float(run.allocation["worst_residual"]) for run in runs[JOINT]))
    return [
        Claim(
            f"It reaches the unpruned accuracy (within {margin_pp:g} percentage point) in at most "
            f"{saving_percent:g} % of the simulated time",
            time,
            0,
            "% of the unpruned scheme's time to the same accuracy",
            verdict(time, lambda v: v <= saving_percent),
            f"Each clock stops when the accuracy, averaged over {WINDOW} rounds, first comes within the margin of "
            "what the unpruned scheme ends with.",
            id="time-half",
        ),
        Claim(
            f"It reaches the unpruned accuracy in at most {100 * AIM:g} % of the simulated time",
            time,
            0,
            "% of the unpruned scheme's time to the same accuracy",
            verdict(time, lambda v: v <= 100 * AIM),
            f"The deadline alone allows about {100 * AIM:g} %: the rest is whether pruning costs rounds.",
            id="time-aim",
        ),
        Claim(
            f"After {saving_percent:g} % of the unpruned run's time it is within {margin_pp:g} percentage point of "
            "where the unpruned run ends",
            at_half,
            2,
            "percentage points, joint at that time minus unpruned at its end",
            verdict(at_half, lambda v: v >= -margin_pp),
            "The same claim without a threshold crossing, which is noisy on a flat curve. Joint training ends there.",
            id="at-half",
        ),
        Claim(
            "Its rounds are shorter",
            latency,
            0,
            "% of the mean unpruned round",
            "given",
            "Set beforehand, not found: the deadline is an input. Late rounds push it up.",
            id="round",
        ),
        Claim(
            "At the same deadline it prunes less than equal shares do",
            pruned,
            2,
            "mean pruning ratio, joint minus equal",
            verdict(pruned, lambda v: v <= -0.005),
            "Both know each round's channel; the equal scheme takes the least common ratio that meets the deadline.",
            id="prunes-less",
        ),
        Claim(
            "It reaches the unpruned accuracy sooner than equal shares do",
            sooner,
            0,
            "% of the time under equal shares",
            verdict(sooner, lambda v: v < 100),
            "A seed on which either never gets there does not count as holding.",
            id="sooner-equal",
        ),
        Claim(
            "Its worst phone ends no worse than under equal shares",
            worst_phone,
            1,
            "percentage points, joint minus equal",
            verdict(worst_phone, lambda v: v >= 0),
            f"The phone with the lowest accuracy, averaged over the last {WINDOW} rounds of each.",
            id="worst-phone",
        ),
        Claim(
            "It spends no more energy per phone and round than equal shares do",
            energy,
            0,
            "% of the energy under equal shares",
            verdict(energy, lambda v: v <= 100),
            "Energy is counted, not minimised: the joint scheme spends it to prune less.",
            id="energy-equal",
        ),
        Claim(
            "It spends no more energy per phone and round than unpruned training does",
            energy_unpruned,
            0,
            "% of the unpruned scheme's energy",
            verdict(energy_unpruned, lambda v: v <= 100),
            "Fewer steps are trained and fewer bits sent, in less time.",
            id="energy-unpruned",
        ),
        *(_faster(runs, other) for other in runs if SCHEMES[other].pruned and other != JOINT),
        Claim(
            "Every allocation is certified optimal (KKT residuals and duality gap at most 1e−9, normalised)",
            residual,
            None,
            "largest over all rounds",
            verdict(residual, lambda v: v <= 1e-9),
            "Judged by a checker that does not use the solver.",
            id="certified",
        ),
    ]


def cards(found: Sequence[Claim], count: int = 3) -> list[Claim]:
    """The claims that a page begins with: the first that were judged, of which no two say the same number."""
    shown: list[Claim] = []
    for claim in found:
        if len(shown) < count and claim.verdict != "given" and claim.measured not in [c.measured for c in shown]:
            shown.append(claim)
    return shown


def _faster(runs: dict[str, list[Run]], other: str) -> Claim:
    """Whether the joint scheme learns faster than another that prunes."""
    pairs = zip(runs[JOINT], runs[other], strict=True)
    gap = Spread(tuple(_points(*(_averages(a, b) or (None, None))) for a, b in pairs))
    return Claim(
        f"It learns faster than: {SCHEMES[other].title}",
        gap,
        2,
        "percentage points of accuracy averaged over the run, joint minus the other",
        verdict(gap, lambda v: v > 0),
        "Averaged over the simulated time that both train for.",
        id=f"faster-{other}",
    )


def _averages(mine: Run, other: Run) -> tuple[float, float] | None:
    return time_averages((mine.accuracy, mine.time_s), (other.accuracy, other.time_s))


def _final_worst(run: Run) -> float:
    return float(run.worst_accuracy[-WINDOW:].mean())


def _energy_j(run: Run) -> float:
    """Mean over rounds and devices."""
    return float(run.allocation["energy_j"].mean())


def _ratio(run: Run) -> FloatArray:
    return run.allocation["pruning_ratio"]


def _percent(mine: float | None, other: float | None) -> float | None:
    return None if mine is None or other is None else 100 * mine / other


def _points(mine: float | None, other: float | None) -> float | None:
    return None if mine is None or other is None else 100 * (mine - other)


def verdict(measured: Spread, holds: Callable[[float], bool]) -> str:
    """Judged seed by seed, or cell by cell, so that an average cannot hide one that fails; no value fails, too."""
    good = sum(value is not None and holds(value) for value in measured.per_seed)
    every = len(measured.per_seed)
    return (
        "holds" if good == every else "does not hold" if good == 0 else f"holds for {good} of {every} {measured.over}"
    )
