"""Tables from results: rows of LaTeX cells, one function per table."""

from __future__ import annotations

import numpy as np

from validation.adaptive.page import NEEDED
from validation.summary import SAVING

from .numbers import FASTER
from .planned import COVERED, FILL, entry
from .results import Report, Results, claim, complete, per_seed, scheme, time_percent
from .seeds import of_seeds, spread
from .tex import between, escape, fixed, significant, table


def schemes(results: Results) -> str:
    """Every scheme on both data sets: accuracy, time to the target, pruning, lateness, energy."""
    head = ["Scheme", "Accuracy (\\%)", "Worst phone (\\%)", "Round (s)", "Time to target (\\%)", "Reached",
            "Pruning ratio", "Late (\\%)", "Energy (J)"]  # fmt: skip
    rows = []
    for title, report in (("MNIST", results.mnist), ("Fashion-MNIST", results.fashion)):
        rows.append([title])
        rows += scheme_rows(report)
    return table("l" + "c" * (len(head) - 1), head, rows)


def scheme_rows(report: Report) -> list[list[str]]:
    """One row per scheme: means over seeds, ranges where they matter."""
    rows = []
    for row in report["schemes"]:
        time = time_percent(report, row["scheme"])
        reached = np.array([value for value in time if value is not None])
        shown = "--"
        if len(reached):
            shown = between(fixed(reached.min()), fixed(reached.max()))
            if len(reached) == len(time):
                shown = fixed(reached.mean()) + (f" ({shown})" if reached.min() != reached.max() else "")
        final, worst = (100 * complete(row[name]) for name in ("final_accuracy", "final_worst_accuracy"))
        ratio, late = complete(row["pruning_ratio"]).mean(), 100 * complete(row["late_rounds"]).mean()
        rows.append([
            escape(row["title"]),
            f"{fixed(final.mean(), 1)} ({between(fixed(final.min(), 1), fixed(final.max(), 1))})",
            fixed(worst.mean(), 1),
            fixed(complete(row["round_s"]).mean(), 2),
            shown,
            of_seeds(np.array([value is not None for value in per_seed(row["time_to_target_s"])])),
            fixed(ratio, 2) if ratio else "--",
            fixed(late) if ratio else "--",
            fixed(complete(row["energy_j"]).mean(), 2),
        ])  # fmt: skip
    return rows


_SETS = {
    "digits": "Digits",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion",
    "writers": "Synthetic hands",
    "subjects": "Ten people",
}
_CNN = {"digits": "CNN, digits", "mnist": "CNN, MNIST", "fashion_mnist": "CNN, Fashion"}


def _mean_or_reached(time: list[float | None]) -> str:
    """Mean and interval; where a seed never gets there, on how many one does."""
    if None in time:
        return f"{of_seeds(np.array([value is not None for value in time]))} reach it"
    text = spread(np.array(time, dtype=float))
    return f"{text['']} ({text['Ci']})"


def plan(results: Results) -> str:
    """The planner's study: time to the tuned unpruned accuracy on each data set, by kind of mean."""
    rows = []
    studies = [(_SETS[name], report) for name, report in results.adaptive.items()]
    studies += [(_CNN[name], report) for name, report in results.cnn.items()]
    for title, report in studies:
        row = [title]
        for family in (FILL, COVERED):
            time = entry(report, family)["wide"]
            row += [_mean_or_reached(time), of_seeds(np.array([v is not None and v <= NEEDED["tuned"] for v in time]))]
            common = family.replace("joint", "common")
            rivals = [of["wide"] for name, of in report["entries"].items() if name.startswith(f"{common}-rate")]
            row.append(_mean_or_reached(rivals[0]).partition(" (")[0].removesuffix(" reach it") if rivals else "--")
        rows.append([*row, fixed(float(np.mean(entry(report, COVERED)["floor"])))])
    head = ["Data", "Over all", "", "Com.", "Covered", "", "Com.", "Floor"]
    return table("lccccccc", head, rows)


_KINDS = {"joint-fill-rate": "sparse", "joint-fill-frozen": "frozen", "joint-fill-zeroed": "zeroed"}


def kinds(results: Results) -> str:
    """Each cell of the map of kinds of round: planned rounds, and the best of those that were swept."""
    rows = []
    for cell in results.kinds["cells"]:
        planned = np.array(next(time for name, time in cell["time_percent"].items() if "chosen" in name), dtype=float)
        best = float(np.mean(cell["time_percent"][cell["best"]]))
        (kind,) = [word for prefix, word in _KINDS.items() if cell["best"].startswith(prefix)]
        rows.append([
            f"{cell['bandwidth_hz'] / 1e6:g}",
            f"{cell['speed']:g}",
            f"{fixed(float(planned.mean()))} ({between(fixed(planned.min()), fixed(planned.max()))})",
            cell["chosen"],
            fixed(best),
            f"{kind}, {fixed(cell['round'][cell['best']], 2)}",
        ])  # fmt: skip
    return table("ccclcl", ["MHz", "Speed", "Planned (\\%)", "Mostly", "Best (\\%)", "Kind, round"], rows)


_DRIVES = {"unpruned": "Unpruned", "covered": "Covered", "fill": "Over all"}


def drives(results: Results) -> str:
    """Planned rounds on measured drives."""
    rows = []
    for name, of in results.drives["entries"].items():
        behind = np.array(of["behind"])
        rows.append([
            _drive(name),
            _mean_or_reached(of["tuned"]).partition(" (")[0],
            fixed(float(np.mean(of["round"]))),
            fixed(float(np.mean(of["floor"]))),
            f"{-behind.mean():+.1f}".replace("-0.0", "0.0").replace("-", "\\textminus{}"),
        ])  # fmt: skip
    return table("lcccc", ["Rounds", "Time", "Round", "Slowest", "End"], rows)


def _drive(name: str) -> str:
    """What the name of an entry says: averaging or unpruned, samples of a step if by speed, server rate."""
    family, _, rate = name.partition("-rate")
    words = family.split("-")
    what = next(title for word, title in _DRIVES.items() if word in words)
    what = f"Common, {what.lower()}" if words[0] == "common" else what
    by_speed = "".join(f", {word.removeprefix('speed')} by speed" for word in words if word.startswith("speed"))
    return f"{what}{by_speed}, rate {rate}"


def comparisons(results: Results) -> str:
    """The joint scheme's speed of learning against every other pruned one, on each data set."""
    reports = {"MNIST": results.mnist, "Fashion-MNIST": results.fashion, "Digits": results.ablation}
    rows = []
    for title, report in reports.items():
        rows.append([title])
        for each in report["claims"]:
            if each["id"].startswith(FASTER):
                gap = complete(each["measured"])
                text = spread(gap, 2)
                other = escape(scheme(report, each["id"].removeprefix(FASTER))["title"])
                rows.append([other, text[""], text["Range"], text["Ci"], of_seeds(gap > 0)])
    return table("lrccc", ["Joint allocation against", "Mean", "Range", "\\Confidence\\,\\% int.", "Ahead"], rows)


def headline(results: Results) -> str:
    """The claim of latency on each data set."""
    rows = []
    for title, report in (("MNIST", results.mnist), ("Fashion-MNIST", results.fashion), ("Digits", results.ablation)):
        time = time_percent(report, "joint")
        reached = np.array([value for value in time if value is not None])
        text = spread(reached)
        at_end = spread(complete(claim(report, "at-half")["measured"]), 2)
        rows.append([
            title, f"{text['']} ({text['Range']})", text["Ci"], of_seeds(reached <= 100 * SAVING),
            f"{at_end['']} ({at_end['Range']})",
        ])  # fmt: skip
    head = ["Data", "Time (\\%)", "\\Confidence\\,\\% int.", "Within", "Accuracy (points)"]
    return table("lcccc", head, rows)


def tightness(results: Results) -> str:
    """The theorem's value against the exact worst case."""
    head = ["Instance", "$\\tau$", "Theorem", "Exact", "Ratio"]
    rows = [[escape(name), steps, *(fixed(float(v), 4) for v in values)] for name, steps, *values in results.tightness]
    return table("lcccc", head, rows)


def speed(results: Results) -> str:
    """What was timed, as the benchmark wrote it."""
    rows = [[_code(what), significant(float(measured.replace(",", "")), 3)] for what, _, measured, *_ in results.speed]
    return table(r">{\raggedright\arraybackslash}p{6.1cm}r", ["Ratio", "Measured"], rows)


def _code(text: str) -> str:
    """Plain text with code between backquotes and powers of ten."""
    parts = text.split("`")
    words = [rf"\texttt{{{escape(part)}}}" if n % 2 else escape(part) for n, part in enumerate(parts)]
    return "".join(words).replace(r"10\textasciicircum{}6", "$10^6$").replace(r"10\textasciicircum{}4", "$10^4$")


def harder(results: Results) -> str:
    """Every scheme on harder data and measured drives."""
    rows = []
    for row in results.harder["schemes"]:
        final = 100 * np.array(row["final_accuracy"])
        pruned = float(np.mean(row["pruning_ratio_mean"]))
        rows.append([
            escape(row["title"]),
            f"{fixed(final.mean(), 1)} ({between(fixed(final.min(), 1), fixed(final.max(), 1))})",
            fixed(pruned, 2) if pruned else "--",
            fixed(100 * float(np.mean(row["arrived_per_device"])), 1),
            fixed(float(np.mean(row["energy_j"])), 2),
        ])  # fmt: skip
    return table("lcccc", ["Scheme", "Accuracy (\\%)", "Ratio", "Arrived (\\%)", "Energy (J)"], rows)
