"""From the finished cases to the page: time to the tuned unpruned scheme's accuracy, per scheme. Runs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cases import Finished, load_cases
from ..figures import COLOURS, TITLES, drawing, log_errors, svg
from ..measures import MARGIN, WINDOW, FloatArray, mean_interval, smooth, time_averages, time_to
from ..page import Page, Table, write_page
from ..summary import SHARE, Claim, Spread, verdict
from .study import PACKAGES, loaded

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEEDED = {"tuned": 30.0, "untuned": 20.0}
"""Per cent of the unpruned scheme's time within which the planner's rounds are to reach its accuracy."""
OVER_FLOOR = 1.5
"""Time to the target over what it would be if rounds were as short as what cannot be pruned, and as good, at most."""
_NOT_PRUNED = {
    "floor": ("a whole broadcast and the slowest phone's training", "A broadcast of what moved may be shorter."),
    "training": ("the slowest phone's training", "Nothing is sent in it. Frozen rounds train less."),
}
"""What no pruned upload shortens, in words, by its name in `measured`."""
MARGINS = (MARGIN, 2 * MARGIN)
"""The margin of the claims, and one that few held-out samples resolve better."""
_TWO_COLUMNS = 38
"""Letters of the longest name with which two columns of a legend fit the figure."""
_LINE_IN, _LINES_WITHIN = 0.16, 7
"""Height of a line of a legend, and how many of them leave the figure as it is."""
_LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
Runs = dict[str, dict[int, dict[str, Any]]]


def write(out: Path) -> Path:
    """Draw the finished study in `out`; returns the path of its page."""
    finished = load_cases(out)
    page = _tuning_page if finished.config["name"] in ("tuning", "baselines-tuning") else _page
    return write_page(out, page(finished), finished)


def by_entry(finished: Finished) -> Runs:
    """The runs of each entry by seed."""
    runs: Runs = {}
    for run in finished.results.values():
        runs.setdefault(run["entry"], {})[run["seed"]] = run
    return runs


def smoothed(run: dict[str, Any]) -> FloatArray:
    """(R,) accuracy averaged over the last rounds, as many as `WINDOW` unless the run says otherwise."""
    return smooth(run["accuracy"], run.get("window", WINDOW))


def targets(runs: Runs, margin: float = MARGIN) -> dict[int, float]:
    """Per seed: the better of the unpruned schemes' final accuracies, less the margin."""
    unpruned = [of for name, of in runs.items() if name.startswith("unpruned")]
    return {seed: max(float(smoothed(of[seed])[-1]) for of in unpruned) - margin for seed in unpruned[0]}


def times(runs: Runs, target: dict[int, float]) -> dict[str, dict[int, float | None]]:
    """By entry and seed: simulated seconds to the target; None if never."""
    return {
        name: {
            seed: time_to(run["accuracy"], run["time_s"], target[seed], run.get("window", WINDOW))
            for seed, run in of.items()
        }
        for name, of in runs.items()
    }


def quickest(runs: Runs, target: dict[int, float], names: list[str]) -> str:
    """The entry with the least time to the target, on the mean over seeds of its time over the least of `names`.

    One that never gets there counts as if it did at the end of the longest run of that seed; where none ever does the
    best accuracy at the end decides.
    """
    took = times(runs, target)
    longest = {seed: max(of[seed]["time_s"][-1] for of in runs.values() if seed in of) for seed in runs[names[0]]}
    charged = {n: {s: took[n][s] or float(longest[s]) for s in runs[n]} for n in names}
    least = {seed: min(of[seed] for of in charged.values()) for seed in charged[names[0]]}

    def cost(name: str) -> tuple[float, float]:
        ends = [float(smooth(run["accuracy"])[-1]) for run in runs[name].values()]
        return float(np.mean([t / least[seed] for seed, t in charged[name].items()])), -float(np.mean(ends))

    return min(names, key=cost)


def measured(finished: Finished) -> dict[str, dict[str, Any]]:
    """By entry: per seed, its time to the target over the tuned and the untuned unpruned scheme's, in per cent.

    Tuned is the last of the unpruned entries, whose settings were chosen on other seeds. The target is the better of
    the unpruned schemes' final accuracies, less `MARGIN`; ``wide`` is the same at the wider margin.
    """
    runs = by_entry(finished)
    took, wide = (times(runs, targets(runs, margin)) for margin in MARGINS)
    unpruned = [name for name in runs if name.startswith("unpruned")]
    tuned, untuned = unpruned[-1], "unpruned-rate1"

    def over(times_s: dict[str, dict[int, float | None]], name: str, base: str) -> tuple[float | None, ...]:
        # A reference that never gets there counts as if it did at its end, which makes the share too large.
        both = [(times_s[name][s], times_s[base][s] or run["time_s"][-1]) for s, run in runs[base].items()]
        return tuple(None if mine is None else 100 * mine / theirs for mine, theirs in both)

    def ahead(name: str, base: str) -> tuple[float | None, ...]:
        pairs = [
            time_averages((runs[name][s]["accuracy"], runs[name][s]["time_s"]), (b["accuracy"], b["time_s"]))
            for s, b in runs[base].items()
        ]
        return tuple(None if pair is None else 100 * (pair[0] - pair[1]) for pair in pairs)

    return {
        name: {
            "tuned": over(took, name, tuned),
            "untuned": over(took, name, untuned) if untuned in runs else (),
            "wide": over(wide, name, tuned),
            "reference": tuned,
            "round": [100 * of[s]["time_s"][-1] / len(of[s]["time_s"]) / of[s]["unpruned_round_s"] for s in of],
            "pruned": [float(np.mean(of[s]["pruning_ratio"])) for s in of],
            "final": [100 * float(smooth(of[s]["accuracy"])[-1]) for s in of],
            "ahead": ahead(name, tuned),
            "floor": [100 * of[s]["floor"] for s in of],
            "training": [100 * of[s]["training"] for s in of],
        }
        for name, of in runs.items()
    }


def _page(finished: Finished) -> Page:
    config, found = finished.config, measured(finished)
    joint = [name for name in found if name.startswith("joint")]
    floor = float(np.mean(found[joint[0]]["floor"]))
    claims = [
        *(_reached(name, found[name], "tuned", floor) for name in joint),
        *(_within_a_point(name, found[name]) for name in joint),
        *(_over(name, found[name], part) for part in _NOT_PRUNED for name in joint if not _dropped(name)),
        *(_reached(name, found[name], "untuned", floor) for name in joint if found[name]["untuned"]),
    ]
    for name in joint:
        family = name.replace("joint", "common").partition("-rate")[0]
        rival = next((other for other in found if other.startswith(f"{family}-rate")), None)
        if rival is not None:
            gap = tuple(
                None if mine is None or other is None else mine - other
                for mine, other in zip(found[name]["tuned"], found[rival]["tuned"], strict=True)
            )
            claims.append(
                Claim(
                    f"{said(name)}: sooner there than one common ratio with its own best deadline",
                    Spread(gap),
                    1,
                    "per cent of the tuned unpruned scheme's time, own ratios minus common ratio",
                    verdict(Spread(gap), lambda v: v < 0),
                    f"Negative: sooner than {rival}. Each has its own tuned rate; band and power are solved for both.",
                    id=f"{name}-against-common",
                )
            )
    rows = [
        [
            name,
            mean_and_interval(of["tuned"]),
            _shown(of["wide"]),
            _shown(of["untuned"]),
            f"{np.mean(of['round']):.1f}",
            f"{np.mean(of['pruned']):.3f}",
            f"{np.mean(of['final']):.2f}",
            _shown(of["ahead"]),
        ]
        for name, of in found.items()
    ]
    best = min(joint, key=lambda name: Spread(found[name]["tuned"]).mean or np.inf) if joint else None
    answer = "No planned scheme was run."
    if best is not None:
        mean = Spread(found[best]["tuned"]).mean
        answer = (
            f"{said(best)}: the tuned unpruned scheme's accuracy, less half a point, after "
            + ("more time than there was on some seed" if mean is None else f"{mean:.0f} % of its time")
            + f" (95 % interval {interval(found[best]['tuned']) or 'none'}); the floor of a round is {floor:.0f} %."
        )
    samples = next(iter(finished.results.values())).get("held_out_samples")
    either = any(run["family"].endswith("-chosen") for run in finished.results.values())
    return Page(
        title="Every scheme that prunes, with every kind of round"
        if config["name"] == "baselines"
        else f"{'Sparse or frozen rounds' if either else 'Sparse uploads'} as the planner runs them",
        where=f"{TITLES[config['dataset']]}, {config['model'].upper()}, ten phones, seeds "
        f"{', '.join(map(str, _seeds(finished)))}",
        answer=answer,
        claims=claims,
        tables=[
            Table(
                "Mean over seeds: time to the target over the tuned unpruned scheme's (95 % interval), the same to one "
                "point below its accuracy, and over the untuned one's, in per cent; round over an unpruned round, in "
                "per cent; pruning ratio; accuracy at the end, in per cent; accuracy averaged over time less the tuned "
                "unpruned scheme's, in points",
                ["", "tuned", "within 1 point", "untuned", "round", "ratio", "final", "ahead"],
                rows,
            )
        ],
        figures=[(_drawing(finished), "Error after each round, averaged over the last ten, mean over seeds; each "
                  "seed's clock in unpruned rounds of its cell.")],
        limits=[
            f"The margin is half a point, {MARGIN * samples:.1f} of {samples} held-out samples; one point beside it."
            if samples else "The margin is half a point, a few held-out samples on digits; one point beside it.",
            "Covered means take a larger step where fewer phones keep a coordinate; entries with fill do not.",
            *(["Devices keep what they do not send in sparse rounds, and add it to their next change."]
              if config.get("error_feedback") else []),
            "Settings are tuned on seeds below 100, `python -m validation tuning`"
            + (" and `baselines-tuning`." if config["name"] == "baselines" else "."),
            "Ten phones, one cell per seed; channels are simulated.",
        ],
        command=_command(config),
        numbers={"entries": found},
    )  # fmt: skip


def _command(config: dict[str, Any]) -> str:
    if config["name"].startswith("baselines"):
        return f"python -m validation {config['name']}"
    model = "" if config["model"] == "mlp" else f" --model {config['model']}"
    folder = "" if loaded(config["dataset"]) in PACKAGES else " --data-dir DIR"
    return f"python -m validation {config['name']} --dataset {config['dataset']}{model}{folder}"


_SAID = {
    "joint-fill": "Planned rounds, mean over all",
    "joint-covered": "Planned rounds, covered means",
    "joint-fill-chosen": "Planned rounds, mean over all",
    "joint-covered-chosen": "Planned rounds, covered means",
}


def said(name: str) -> str:
    """An entry as sentences have it."""
    family, _, rate = name.partition("-rate")
    return f"{_SAID.get(family, family)} (server rate {rate})"


def _reached(name: str, of: dict[str, Any], against: str, floor: float) -> Claim:
    spread = Spread(of[against], possible=SHARE)
    return Claim(
        f"{said(name)}: the {against} unpruned scheme's accuracy, less half a point, in at most "
        f"{NEEDED[against]:g} % of its time",
        spread,
        1,
        f"% of the {against} unpruned scheme's time",
        verdict(spread, lambda v: v <= NEEDED[against]),
        f"Tuned is {of['reference']}. A whole broadcast and dense steps are {floor:.0f} % of an unpruned round.",
        id=f"{name}-{against}",
    )


def _within_a_point(name: str, of: dict[str, Any]) -> Claim:
    """The same to the wider margin, which more held-out samples tell."""
    spread = Spread(of["wide"], possible=SHARE)
    return Claim(
        f"{said(name)}: within a point of the tuned unpruned scheme's accuracy in at most {NEEDED['tuned']:g} % of its "
        "time to there",
        spread,
        1,
        "% of the tuned unpruned scheme's time to within a point of its accuracy",
        verdict(spread, lambda v: v <= NEEDED["tuned"]),
        f"Tuned is {of['reference']}.",
        id=f"{name}-tuned-wide",
    )


def _dropped(name: str) -> bool:
    """Whether all rounds do without some of the computing that counts as dense here; planned ones may in part."""
    return "-zeroed" in name or "-frozen" in name


def _over(name: str, of: dict[str, Any], part: str) -> Claim:
    """How the time to the target compares with what no pruned upload shortens."""
    what, note = _NOT_PRUNED[part]
    short = tuple(None if share is None else share / least for share, least in zip(of["tuned"], of[part], strict=True))
    spread = Spread(short, possible=SHARE)
    return Claim(
        f"{said(name)}: the tuned unpruned scheme's accuracy, less half a point, in at most {OVER_FLOOR:g} times what "
        f"{what} takes of its time",
        spread,
        2,
        f"times what {what} takes of that time",
        verdict(spread, lambda v: v <= OVER_FLOOR),
        f"It is {np.mean(of[part]):.0f} % of an unpruned round. {note}",
        id=f"{name}-over-{part}",
    )


def _tuning_page(finished: Finished) -> Page:
    config, runs = finished.config, by_entry(finished)
    took = times(runs, targets(runs))
    families: dict[str, list[str]] = {}
    for name, of in runs.items():
        families.setdefault(next(iter(of.values()))["family"], []).append(name)
    chosen = {family: quickest(runs, targets(runs), names) for family, names in families.items()}
    reference = took[chosen["unpruned"]]
    rows = [
        [name, *(_shown((None if t is None or reference[s] is None else 100 * t / (reference[s] or 1.0),))
                 for s, t in of.items()), "chosen" if name in chosen.values() else ""]
        for name, of in took.items()
    ]  # fmt: skip
    return Page(
        title=f"{'Server rates' if config['name'] == 'tuning' else 'Settings of baselines'}, tuned on seeds that are "
        "not reported",
        where=f"{TITLES[config['dataset']]}, seeds {', '.join(map(str, _seeds(finished)))}",
        answer="Of each family of schemes the setting with the least time to the target is taken: "
        + ", ".join(chosen.values()) + ".",
        claims=[],
        tables=[Table("Time to the target over that of the chosen unpruned scheme, in per cent, per seed",
                      ["", *(f"seed {seed}" for seed in _seeds(finished)), ""], rows)],
        figures=[],
        limits=[f"{len(_seeds(finished))} seeds: neighbouring settings are not told apart."],
        command=_command(config),
        numbers={"chosen": chosen, "time_s": {name: list(of.values()) for name, of in took.items()}},
    )  # fmt: skip


def interval(values: tuple[float | None, ...]) -> str:
    """95 % interval of the mean over seeds, in words; empty unless every seed has a value."""
    found = mean_interval(values)
    if found is None:
        return ""
    low, high = found
    return f"{low:.1f}" if low == high else f"{low:.1f} to {high:.1f}"


def mean_and_interval(values: tuple[float | None, ...]) -> str:
    """Mean over seeds and its interval, or on how many seeds there is no value."""
    mean, span = Spread(values).mean, interval(values)
    if mean is None:
        return f"never on {values.count(None)} of {len(values)} seeds"
    return f"{mean:.1f} ({span})" if span else f"{mean:.1f}"


def _seeds(finished: Finished) -> list[int]:
    return sorted({run["seed"] for run in finished.results.values()})


def _shown(values: tuple[float | None, ...]) -> str:
    mean = Spread(values).mean if values else None
    return "never on some seed" if mean is None else f"{mean:.1f}"


def entries_above(figure: Figure, axes: Axes) -> None:
    """The names of entries, in two columns if they fit; the figure is as much higher as many lines of them need."""
    handles, names = axes.get_legend_handles_labels()
    columns = 2 if max(map(len, names)) <= _TWO_COLUMNS else 1
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + _LINE_IN * max(0, -(-len(names) // columns) - _LINES_WITHIN))
    figure.legend(handles, names, loc="outside upper center", ncols=columns, fontsize=8)


def _drawing(finished: Finished) -> str:
    with drawing("adaptive", (4.8, 3.9)) as (figure, (axes,)):
        for i, (name, of) in enumerate(by_entry(finished).items()):
            clocks = [np.array(run["time_s"]) / run["unpruned_round_s"] for run in of.values()]
            grid = np.linspace(max(c[0] for c in clocks), min(c[-1] for c in clocks), 200)
            error = 100 * np.mean([
                1 - smooth(run["accuracy"])[np.searchsorted(clock, grid * (1 + 1e-12), side="right") - 1]
                for run, clock in zip(of.values(), clocks, strict=True)
            ], axis=0)  # fmt: skip
            axes.plot(grid, error, label=name, color=COLOURS[i % len(COLOURS)], ls=_LINES[i % len(_LINES)], lw=1.4)
        axes.set(xlabel="simulated time (unpruned rounds)", ylabel="error (%)")
        log_errors(axes)
        entries_above(figure, axes)
        return svg(figure, "adaptive", "Error over simulated time, one line per scheme")
