"""What `tuning` tries on seeds below 100, what it chose there, and the entries that are reported with it.

One procedure for every family of schemes, unpruned training and all that is compared with the planner included: each
server rate of a grid, with each deadline where the scheme does not choose its own, is trained on the data set's
tuning seeds. Of a family that setting is taken whose time to the target, over the least time of the family on the same
seed, is least on the mean (`page.quickest`). The target is the better unpruned accuracy at the end less the margin, so
that unpruned rates are judged by the same number. Grids were set before any of the reported seeds was run;
docs/report.md says which settings lie at an edge of theirs. Seeds differ from data set to data set, and with them the
cells. The power of what a round keeps, the same for the planner and the common ratio, was chosen before, on these and
some more seeds below 100 (docs/log.md).
"""

from __future__ import annotations

from dataclasses import replace

from .study import PAPER, UNTUNED, AdaptiveStudy, Dataset, Entry, Kind, Model

TUNING_SEEDS = {
    "digits": (60, 61, 68, 69),
    "mnist": (62, 63),
    "fashion_mnist": (64, 65),
    "writers": (66, 67),
    "subjects": (78, 79),
}
"""More on digits, where half a point is a few held-out samples."""
SEEDS = {"digits": 1040, "mnist": 1050, "fashion_mnist": 1055, "writers": 1060, "subjects": 1065}
"""The first reported seed of each data set; none was looked at before, and no two data sets share a cell."""
COUNT = {"digits": 10, "mnist": 5, "fashion_mnist": 5, "writers": 5, "subjects": 5}
"""Seeds by default."""
_UNPRUNED = (2.0, 3.0, 4.0, 6.0, 8.0)
_FILL, _COVERED = (2.0, 3.0, 4.0, 6.0, 8.0, 12.0), (1.0, 1.5, 2.0, 3.0)

FAMILIES = (
    *(Entry("unpruned", rate) for rate in _UNPRUNED),
    *(Entry(scheme, rate, "fill", "chosen") for scheme in ("joint", "common") for rate in _FILL),
    *(Entry(scheme, rate, "covered", "chosen") for scheme in ("joint", "common") for rate in _COVERED),
    *(replace(PAPER, server_rate=rate) for rate in (1.0, 2.0, 4.0, 6.0)),
)
"""On every data set. The planner and the common ratio choose deadline and kind of round themselves."""
_KINDS: tuple[Kind, ...] = ("zeroed", "frozen", "sparse")
_DEADLINES = {"zeroed": (0.25, 0.3, 0.4), "frozen": (0.2, 0.25, 0.35), "sparse": (0.08, 0.12, 0.2)}
_RATIOS = {"zeroed": (0.9, 0.95, 0.98), "frozen": (0.95, 0.98, 0.99), "sparse": (0.95, 0.98, 0.99)}
_RATES = {"zeroed": (2.0, 4.0), "frozen": (2.0, 4.0), "sparse": (4.0, 8.0, 12.0)}
BASELINES = (
    *(
        Entry(scheme, rate, "fill", kind, deadline)
        for scheme in ("joint", "common", "equal", "pruning_only")
        for kind in _KINDS
        for rate in _RATES[kind]
        for deadline in _DEADLINES[kind]
        if (scheme, kind) not in (("joint", "sparse"), ("common", "sparse"))  # planned instead
    ),
    *(
        Entry("fixed", rate, "fill", kind, ratio=ratio)
        for kind in _KINDS
        for rate in _RATES[kind]
        for ratio in _RATIOS[kind]
    ),
)
"""On digits: every scheme that prunes with every kind of round, by means over all. A deadline that a round cannot meet
is replaced by the least that it can, as the first round's whole broadcast asks for at 0.08."""

_BATCHES = (8, 16)
_CNN_PLANNED = tuple(
    replace(entry, kind="chosen", batch_size=batch)
    for batch in _BATCHES
    for entry in (
        *(Entry("joint", rate) for rate in (1.0, 1.5, 2.0, 3.0)),
        *(Entry("joint", rate, "covered") for rate in (0.7, 1.0, 1.5)),
        *(Entry("common", rate) for rate in (1.0, 1.5, 2.0, 3.0)),
    )
)
_CNN_DIGITS = AdaptiveStudy(
    "tuning",
    "digits",
    "cnn",
    (72, 73),
    (
        *(Entry("unpruned", rate, batch_size=batch) for batch in (*_BATCHES, 32) for rate in (0.5, 1.0, 1.5, 2.0)),
        *_CNN_PLANNED,
        *(replace(PAPER, server_rate=rate, batch_size=batch) for batch in (*_BATCHES, 32) for rate in (1.0, 1.5)),
    ),
    pruned_rounds=120,
    progress_power=0.5,
)
_CNN_IMAGES = AdaptiveStudy(
    "tuning",
    "mnist",
    "cnn",
    (76, 77),
    (
        *(Entry("unpruned", rate, batch_size=8) for rate in (1.0, 1.5)),
        *(Entry("unpruned", rate, batch_size=16) for rate in (1.0, 1.5, 2.0, 3.0)),
        *(Entry("unpruned", rate) for rate in (1.0, 1.5)),
        *(Entry("joint", rate, kind="chosen", batch_size=8) for rate in (1.5, 2.0, 3.0, 4.0)),
        *(Entry("joint", rate, "covered", "chosen", batch_size=8) for rate in (0.7, 1.0, 1.5)),
        Entry("joint", 2.0, kind="chosen", batch_size=16),
        Entry("joint", 1.5, "covered", "chosen", batch_size=16),
        *(Entry("common", rate, kind="chosen", batch_size=8) for rate in (1.5, 2.0, 3.0)),
        *(replace(PAPER, server_rate=rate, batch_size=batch) for rate, batch in ((1.0, 8), (1.5, 8), (1.0, 32))),
    ),
    rounds=30,
    pruned_rounds=60,
    progress_power=0.5,
)
CNN: dict[Dataset, AdaptiveStudy] = {
    "digits": _CNN_DIGITS,
    "mnist": _CNN_IMAGES,
    "fashion_mnist": replace(_CNN_IMAGES, dataset="fashion_mnist", seeds=(74, 75)),
}
"""What is tried with the CNN, on cells of its own. Training takes two fifths of an unpruned round with batches of 32,
which sparse uploads do not shorten, so batch sizes are tuned along with rates. Planned rounds may be frozen, too. On
MNIST and Fashion-MNIST a round takes a hundred times the perceptron's work, so that there are fewer of them."""


def tuning(dataset: Dataset, model: Model = "mlp") -> AdaptiveStudy:
    """What is tried on one data set."""
    if model == "cnn":
        return CNN[dataset]
    return AdaptiveStudy("tuning", dataset, seeds=TUNING_SEEDS[dataset], entries=FAMILIES)


def baselines_tuning() -> AdaptiveStudy:
    """What is tried of the schemes of `baselines`, beside unpruned training, by which the target is set; two seeds."""
    entries = (*(Entry("unpruned", rate) for rate in _UNPRUNED), *BASELINES)
    return AdaptiveStudy(
        "baselines-tuning", seeds=TUNING_SEEDS["digits"][:2], entries=entries, pruned_rounds=120, progress_power=0.5
    )


RATES: dict[Dataset, tuple[float, float, float, float, float, float]] = {
    "digits": (3.0, 8.0, 6.0, 2.0, 1.5, 4.0),
    "mnist": (6.0, 12.0, 12.0, 2.0, 3.0, 6.0),
    "fashion_mnist": (4.0, 6.0, 8.0, 2.0, 1.5, 4.0),
    "writers": (6.0, 4.0, 12.0, 2.0, 1.5, 2.0),
    "subjects": (6.0, 4.0, 6.0, 1.0, 1.0, 1.0),
}
"""What `tuning` chose for each of `FAMILIES`: unpruned training, the planner and the common ratio with means over all
and with covered means, and the scheme of Liu et al.."""


def chosen(dataset: Dataset) -> tuple[Entry, ...]:
    """Each of `FAMILIES` at its rate."""
    unpruned, joint, common, joint_covered, common_covered, paper = RATES[dataset]
    return (
        Entry("unpruned", unpruned),
        Entry("joint", joint, "fill", "chosen"),
        Entry("common", common, "fill", "chosen"),
        Entry("joint", joint_covered, "covered", "chosen"),
        Entry("common", common_covered, "covered", "chosen"),
        replace(PAPER, server_rate=paper),
    )


def _cnn(unpruned: tuple[float, int], fill: float, covered: float, common: float, paper: float) -> tuple[Entry, ...]:
    """Unpruned training at a rate and batch size; all others take batches of 8, at their rates."""
    rate, batch = unpruned
    pruned = (
        Entry("joint", fill, kind="chosen"),
        Entry("joint", covered, "covered", "chosen"),
        Entry("common", common, kind="chosen"),
        replace(PAPER, server_rate=paper),
    )
    return Entry("unpruned", rate, batch_size=batch), *(replace(entry, batch_size=8) for entry in pruned)


CNN_CHOSEN: dict[Dataset, tuple[Entry, ...]] = {
    "digits": _cnn((1.5, 8), 2.0, 0.7, 1.5, 1.5),
    "mnist": _cnn((1.0, 16), 1.5, 1.0, 1.5, 1.5),
    "fashion_mnist": _cnn((2.0, 16), 3.0, 1.0, 3.0, 1.0),
}
"""What `tuning` chose with the CNN."""
CNN_SEEDS: dict[Dataset, int] = {"digits": 960, "mnist": 955, "fashion_mnist": 950}
"""The first of five."""


def reported(dataset: Dataset, model: Model = "mlp") -> AdaptiveStudy:
    """What is run on fresh seeds: each family as it was tuned, and unpruned training as it is without."""
    if model == "cnn":
        first = CNN_SEEDS[dataset]
        entries = (UNTUNED, *CNN_CHOSEN[dataset])
        return replace(CNN[dataset], name="adaptive", seeds=tuple(range(first, first + 5)), entries=entries)
    first = SEEDS[dataset]
    seeds = tuple(range(first, first + COUNT[dataset]))
    return AdaptiveStudy(dataset=dataset, seeds=seeds, entries=(UNTUNED, *chosen(dataset)))


BEST: tuple[Entry, ...] = (
    Entry("joint", 4.0, "fill", "zeroed", 0.25),
    Entry("joint", 4.0, "fill", "frozen", 0.25),
    Entry("common", 4.0, "fill", "zeroed", 0.25),
    Entry("common", 4.0, "fill", "frozen", 0.25),
    Entry("equal", 4.0, "fill", "zeroed", 0.3),
    Entry("equal", 4.0, "fill", "frozen", 0.25),
    Entry("equal", 8.0, "fill", "sparse", 0.12),
    Entry("pruning_only", 2.0, "fill", "zeroed", 0.3),
    Entry("pruning_only", 4.0, "fill", "frozen", 0.25),
    Entry("pruning_only", 4.0, "fill", "sparse", 0.08),
    Entry("fixed", 2.0, "fill", "zeroed", ratio=0.95),
    Entry("fixed", 2.0, "fill", "frozen", ratio=0.98),
    Entry("fixed", 8.0, "fill", "sparse", ratio=0.99),
)
"""What `baselines-tuning` chose of each family of `BASELINES`."""


def baselines() -> AdaptiveStudy:
    """Every scheme that prunes with every kind of round, beside the planner, on digits and seeds of their own."""
    return AdaptiveStudy("baselines", seeds=tuple(range(1070, 1080)), entries=(UNTUNED, *chosen("digits"), *BEST))
