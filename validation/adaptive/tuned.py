"""What `tuning` tries on seeds below 100, what it chose there, and the entries that are reported with it.

One procedure for every family of schemes, the unpruned one included: each server rate of the grid, with each deadline
where the scheme does not choose its own, is trained on the data set's two tuning seeds; the setting with the least mean
time to the target is taken. The target is the better unpruned accuracy at the end less the margin, so the unpruned
rates are judged by the same number. Seeds differ from data set to data set, and with them the cells.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from .study import PAPER, UNTUNED, AdaptiveStudy, Dataset, Entry, Kind, Model

TUNING_SEEDS = {"digits": (60, 61), "mnist": (62, 63), "fashion_mnist": (64, 65), "writers": (66, 67)}
SEEDS = {"digits": 310, "mnist": 330, "fashion_mnist": 350, "writers": 370}
"""The first reported seed of each data set; none was looked at before, and no two data sets share a cell."""
COUNT = {"digits": 10, "mnist": 5, "fashion_mnist": 5, "writers": 5}
"""Seeds by default; more on digits, where half a point is a few held-out samples."""

PLANNED = (
    *(Entry("unpruned", rate) for rate in (1.0, 2.0, 3.0, 4.0, 6.0)),
    *(Entry("joint", rate) for rate in (2.0, 3.0)),
    *(Entry("joint", rate, "covered") for rate in (1.0, 1.5)),
)
"""What is tried first. The common ratio takes the rate of the planner, so that they differ in the allocation alone."""
_DEADLINES = {"zeroed": (0.4, 0.5), "frozen": (0.25, 0.35), "sparse": (0.25, 0.35)}
_KINDS: tuple[Kind, ...] = ("zeroed", "frozen", "sparse")
BASELINES = (
    *(
        Entry(scheme, rate, "fill", kind, deadline)
        for scheme in ("joint", "common", "equal", "pruning_only")
        for kind in _KINDS
        for rate in (1.0, 2.0)
        for deadline in _DEADLINES[kind]
        if (scheme, kind) not in (("joint", "sparse"), ("common", "sparse"))  # planned instead
    ),
    *(Entry("fixed", rate, "fill", kind) for kind in _KINDS for rate in (1.0, 2.0)),
)
"""Every scheme that prunes with every kind of round, by means over all."""


BEYOND: dict[Dataset, tuple[Entry, ...]] = {
    "writers": (Entry("unpruned", 8.0), Entry("joint", 6.0), Entry("joint", 2.0, "covered"))
}
"""What is tried where the best of `PLANNED` lay at its end for every scheme."""


CNN: dict[Dataset, AdaptiveStudy] = {
    "digits": AdaptiveStudy(
        "tuning",
        "digits",
        "cnn",
        (72, 73),
        (
            *(Entry("unpruned", rate) for rate in (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)),
            *(Entry("joint", rate, kind="chosen") for rate in (1.0, 2.0, 3.0, 4.0)),
            *(Entry("joint", rate, "covered", "chosen") for rate in (1.0, 1.5)),
        ),
    ),
    "fashion_mnist": AdaptiveStudy(
        "tuning",
        "fashion_mnist",
        "cnn",
        (74, 75),
        (Entry("unpruned", 2.0), Entry("unpruned", 4.0)),
        rounds=24,
        pruned_rounds=36,
    ),
}
"""What is tried with the CNN, on cells of its own. Planned rounds may be frozen, too: training takes half of an
unpruned round, which sparse uploads do not shorten. On Fashion-MNIST a round takes a hundred times the perceptron's
work, so that there are fewer of them, and planned rounds take a rate that was not tuned for them: the perceptron's."""


def tuning(dataset: Dataset, model: Model = "mlp") -> AdaptiveStudy:
    """What is tried on one data set."""
    if model == "cnn":
        return CNN[dataset]
    entries = PLANNED + BEYOND.get(dataset, ()) + BASELINES
    return AdaptiveStudy("tuning", dataset, seeds=TUNING_SEEDS[dataset], entries=entries)


CHOSEN: dict[Dataset, tuple[float, float, float]] = {
    "digits": (3.0, 3.0, 1.5),
    "mnist": (6.0, 3.0, 1.5),
    "fashion_mnist": (4.0, 3.0, 1.0),
    "writers": (6.0, 6.0, 1.5),
}
"""What `tuning` chose: rates of unpruned training, of the planner with means over all and with covered means."""


CNN_CHOSEN: dict[Dataset, tuple[float, float, float]] = {"digits": (1.5, 1.0, 1.0), "fashion_mnist": (2.0, 2.0, 1.0)}
"""The same for the CNN, which diverges at twice the rates that suit it. On digits rate 1 of unpruned training, which is
reported in any case, was as quick as 1.5."""
CNN_SEEDS: dict[Dataset, tuple[int, ...]] = {"digits": tuple(range(450, 455)), "fashion_mnist": tuple(range(440, 445))}


def reported(dataset: Dataset, model: Model = "mlp") -> AdaptiveStudy:
    """What is run on fresh seeds; a common ratio takes the planner's rate, so that they differ in the allocation."""
    if model == "cnn":
        unpruned, fill, covered = CNN_CHOSEN[dataset]
        entries: tuple[Entry, ...] = (Entry("unpruned", unpruned), Entry("joint", covered, "covered", "chosen"))
        if dataset == "digits":
            entries = (UNTUNED, *entries, Entry("joint", fill, kind="chosen"), PAPER)
        return replace(CNN[dataset], name="adaptive", seeds=CNN_SEEDS[dataset], entries=entries)
    unpruned, fill, covered = CHOSEN[dataset]
    first = SEEDS[dataset]
    return AdaptiveStudy(
        dataset=dataset,
        seeds=tuple(range(first, first + COUNT[dataset])),
        entries=(
            UNTUNED,
            Entry("unpruned", unpruned),
            Entry("joint", fill),
            Entry("joint", covered, "covered"),
            Entry("common", fill),
            Entry("common", covered, "covered"),
            PAPER,
        ),
    )


_BEST: tuple[tuple[Literal["joint", "common", "equal", "pruning_only"], Kind, float], ...] = (
    ("joint", "zeroed", 0.4),
    ("joint", "frozen", 0.35),
    ("common", "zeroed", 0.4),
    ("common", "frozen", 0.25),
    ("equal", "zeroed", 0.4),
    ("equal", "frozen", 0.35),
    ("equal", "sparse", 0.25),
    ("pruning_only", "zeroed", 0.4),
    ("pruning_only", "frozen", 0.35),
    ("pruning_only", "sparse", 0.25),
)
"""Of `BASELINES` at rate 2, the deadline that was there first on seed 60."""


def baselines() -> AdaptiveStudy:
    """Every scheme that prunes with every kind of round, beside the planner, on digits and seeds of their own.

    All take means over all and the server rate that suits unpruned training, with the deadlines of `_BEST`.
    """
    return AdaptiveStudy(
        "baselines",
        seeds=(380, 381, 382, 383),
        entries=(
            UNTUNED,
            Entry("unpruned", CHOSEN["digits"][0]),
            Entry("joint", CHOSEN["digits"][1]),
            Entry("common", CHOSEN["digits"][1]),
            *(Entry(scheme, CHOSEN["digits"][0], "fill", kind, deadline) for scheme, kind, deadline in _BEST),
            *(Entry("fixed", CHOSEN["digits"][0], "fill", kind) for kind in _KINDS),
            PAPER,
        ),
    )
