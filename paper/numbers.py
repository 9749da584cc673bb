"""Every number in the text, as a macro, from the results alone."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from validation.bound import counterexample, hypotheses_page
from validation.measures import CONFIDENCE, MARGIN, WINDOW
from validation.ordering.page import correlation
from validation.summary import AIM, SAVING
from validation.tradeoff.page import GROUPS, OBJECTIVES, by_seed, correlations, given_away, interval

from .planned import write_planned
from .results import (
    FloatArray,
    Report,
    Results,
    average,
    claim,
    complete,
    scheme,
    time_percent,
)
from .seeds import apart, of_seeds, spread
from .tex import Macros, between, fixed, power, significant

FASTER = "faster-"
"""How the ids of the comparisons of learning speed begin; a scheme follows."""
HARDER = {
    "Target": "time-half",
    "End": "end",
    "Sooner": "sooner",
    "VsStatic": "faster-static",
    "VsAllocationOnly": "faster-allocation_only",
    "VsPartial": "faster-partial",
    "Lost": "lost",
}
"""Ids of the claims on harder data that the text reports."""
TAILS = (0.1, 0.9)
"""Quantiles between which most runs lie."""


def write_numbers(macros: Macros, results: Results) -> None:
    """Define all of them."""
    _setup(macros, results)
    for prefix, report in (("Mnist", results.mnist), ("Fashion", results.fashion), ("Digits", results.ablation)):
        macros.update(prefix, _headline(report))
    macros.update("Mnist", _against(results.mnist))
    for prefix, report in (("Mnist", results.mnist), ("Fashion", results.fashion)):
        macros.update(prefix, _aims(report) | _worst(report))
    _ablation(macros, results.ablation)
    _bound(macros, results.bound)
    _kinds(macros, results.bound["kinds"])
    _ordering(macros, results.ordering)
    _counterexample(macros)
    _tradeoff(macros, results.tradeoff)
    _map(macros, results.map)
    _scale(macros, results.scale)
    _speed(macros, results)
    _harder(macros, results.harder)
    write_planned(macros, results)


def _setup(macros: Macros, results: Results) -> None:
    study = results.mnist["study"]
    radio, training = study["radio"], study["training"]
    low, high = (radio["clock_hz"] / cycles / 1e9 for cycles in reversed(radio["cycles_per_flop"]))
    macros.update("", {
        "Devices": fixed(training["devices"]),
        "PersonalSteps": fixed(training["personal_steps"]),
        "ProbeSteps": fixed(training["probe_steps"]),
        "PrunedSteps": fixed(training["pruned_steps"]),
        "Batch": fixed(training["batch_size"]),
        "SamplesPerDevice": fixed(training["samples_per_device"]),
        "ClassesPerDevice": fixed(training["classes_per_device"]),
        "LearningRate": f"{training['learning_rate_global']:g}",
        "DigitsLearningRate": f"{results.ablation['study']['training']['learning_rate_global']:g}",
        "TestPercent": fixed(100 * training["test_fraction"]),
        "Seeds": fixed(len(study["seeds"])),
        "SeedRange": f"{min(study['seeds'])} to {max(study['seeds'])}",
        "DeadlinePercent": fixed(100 * study["deadline_fraction"]),
        "TimeSharePercent": fixed(100 * study["time_share"]),
        "CellRadius": fixed(radio["cell_radius_m"]),
        "Antennas": fixed(radio["antennas"]),
        "BandwidthMhz": f"{radio['bandwidth_hz'] / 1e6:g}",
        "NoiseFigureDb": f"{radio['noise_figure_db']:g}",
        "PhoneNoiseFigureDb": f"{radio['device_noise_figure_db']:g}",
        "TxPowerDbm": f"{radio['tx_power_dbm']:g}",
        "ClockGhz": f"{radio['clock_hz'] / 1e9:g}",
        "FlopsRange": between(f"{low:.1f}", f"{high:.1f}"),
        "Kappa": significant(radio["switched_capacitance"], 1),
        "RatioMax": f"{radio['pruning_ratio_max']:g}",
        "MarginPp": f"{100 * MARGIN:g}",
        "SavingPercent": fixed(100 * SAVING),
        "AimPercent": fixed(100 * AIM),
        "Window": fixed(WINDOW),
        "Confidence": fixed(100 * CONFIDENCE),
        "LowTail": fixed(100 * TAILS[0]),
        "HighTail": fixed(100 * TAILS[1]),
    })  # fmt: skip


def _headline(report: Report) -> dict[str, str]:
    """What a comparison of schemes says of the joint scheme."""
    reached = _times(report)
    time = spread(reached)
    rival = complete(claim(report, FASTER + "allocation_only")["measured"])
    return {
        "Time": time[""],
        "TimeCi": time["Ci"],
        "TimeHalf": of_seeds(reached <= 100 * SAVING),
        "AtEndGap": apart(complete(claim(report, "at-half")["measured"])),
        "VsAllocationOnlyWins": of_seeds(rival > 0),
        "Residual": power(complete(claim(report, "certified")["measured"]).max()),
    }


def _times(report: Report) -> FloatArray:
    """Per seed: the joint scheme's time to the target in per cent of the unpruned one's."""
    time = time_percent(report, "joint")
    if None in time:
        raise ValueError(f"on {report['study']['name']} a seed never reaches the target: the text has no words for it")
    return np.array(time, dtype=float)


def _aims(report: Report) -> dict[str, str]:
    """Where the text looks closer: the range of times, and on how many seeds it is short."""
    reached = _times(report)
    return {"TimeRange": spread(reached)["Range"], "TimeAim": of_seeds(reached <= 100 * AIM)}


def _worst(report: Report) -> dict[str, str]:
    """Accuracy of the worst phone at the end, in per cent."""
    return {
        f"{key}Worst": fixed(100 * average(report, name, "final_worst_accuracy"), 1)
        for key, name in (("Joint", "joint"), ("AllocationOnly", "allocation_only"), ("Partial", "partial"))
    }


def _against(report: Report) -> dict[str, str]:
    """Pruning, lateness and energy beside the schemes that the text names."""
    texts = {
        f"{key}Ratio": fixed(average(report, name, "pruning_ratio"), 2)
        for key, name in (("Joint", "joint"), ("AllocationOnly", "allocation_only"), ("Equal", "equal"))
    }
    for name in ("joint", "equal"):
        texts[f"{name.capitalize()}Late"] = fixed(100 * average(report, name, "late_rounds"))
    for other in ("equal", "partial"):
        energy = complete(scheme(report, "joint")["energy_j"]) / complete(scheme(report, other)["energy_j"])
        texts[f"EnergyOver{other.capitalize()}"] = fixed(100 * energy.mean())
    return texts


def _ablation(macros: Macros, report: Report) -> None:
    joint = complete(scheme(report, "joint")["final_accuracy"])

    def lost(name: str) -> dict[str, str]:
        return spread(100 * (joint - complete(scheme(report, name)["final_accuracy"])), 1)

    def slower(name: str) -> FloatArray:
        return complete(claim(report, FASTER + name)["measured"])

    for name in ("shared", "random"):
        text = lost(name)
        macros.update(f"Ablate{name.capitalize()}End", {"": text[""], "Range": text["Range"]})
    macros.add("AblateMagnitudeEnd", lost("magnitude")[""].removeprefix("$-$"))  # the text says: within
    macros.add("AblateMagnitudeAveraged", spread(slower("magnitude"), 2)[""])
    for name in ("taylor", "quadratic"):
        text = spread(-slower(name), 2)
        wins = of_seeds(slower(name) < 0)
        macros.update(f"Ablate{name.capitalize()}Gain", {"": text[""], "Range": text["Range"], "Wins": wins})


def _bound(macros: Macros, report: Report) -> None:
    runs = report["runs"]
    digits = [run for run in runs if "terms" in run]
    quadratics = [run for run in runs if "terms" not in run]
    ratio = {
        "Quadratics": _over_measured(quadratics),
        "Digits": _over_measured(digits),
        "QuadraticsAgree": _over_measured(quadratics, agree=True),
        "QuadraticsDiffer": _over_measured(quadratics, agree=False),
        "DigitsAgree": _over_measured(digits, agree=True),
        "DigitsDiffer": _over_measured(digits, agree=False),
    }
    texts = {
        "Runs": fixed(len(runs)),
        "QuadraticRuns": fixed(len(quadratics)),
        "TrainingRuns": fixed(len(digits)),
        "Rounds": fixed(_first_number(claim(report, "never-below")["unit"], "rounds")),
        "Comparisons": fixed(_first_number(claim(report, "terms-never-below")["unit"], "comparisons")),
        "Violations": fixed(sum(run["violations"] for run in runs)),
        "TermViolations": fixed(sum(len(run["term_violations"]) for run in runs)),
    }
    for name, values in ratio.items():
        texts[f"{name}Median"] = significant(float(np.median(values)))
    for name in ("Quadratics", "Digits"):
        low, high = np.quantile(ratio[name], TAILS)
        texts[f"{name}Span"] = between(significant(float(low)), significant(float(high)))
    pruning = [run["terms"]["pruning"] for run in digits if run["ratio"] > 0]
    orders = np.log10([term["bound"] / term["measured"] for term in pruning])
    low, high = np.quantile(orders, TAILS)
    texts["PruningOrders"] = between(fixed(low), fixed(high))
    largest = [
        run["terms"]["pruning"]["bound"] == max(term["bound"] for term in run["terms"].values())
        for run in digits if run["ratio"] > 0
    ]  # fmt: skip
    texts["PruningLargestPercent"] = fixed(100 * float(np.mean(largest)))
    for masks in ("magnitude", "movement"):
        error = [r["pruning_error_over_norm"] / r["ratio"] for r in digits if r["masks"] == masks and r["ratio"] > 0]
        texts[f"Error{masks.capitalize()}"] = fixed(max(error), 2)
    macros.update("Bound", texts)


def _kinds(macros: Macros, runs: list[dict[str, Any]]) -> None:
    """Guarantees from measured errors, without the initial gap, over the measured squared gradient."""
    texts = {"Runs": fixed(len(runs)), "Seeds": fixed(len({run["seed"] for run in runs}))}
    texts["Violations"] = fixed(sum(run["violations"] for run in runs))
    pairs = [pair for run in runs for pair in hypotheses_page.compared(run)]
    texts["TermViolations"] = fixed(sum(pair["violations"] for pair in pairs))
    for update in ("zeroed", "frozen", "sparse"):
        its = [run for run in runs if run["update"] == update]
        parts = {
            "Median": ("without_gap_over_gradient", its),
            "Full": ("without_gap_over_gradient", [run for run in its if run["batch"] is None]),
            "Batch": ("without_gap_over_gradient", [run for run in its if run["batch"] is not None]),
            "Gap": ("with_gap_over_gradient", its),
        }
        for part, (ratio, of) in parts.items():
            texts[f"{update.capitalize()}{part}"] = significant(float(np.median([run[ratio] for run in of])))
    macros.update("Kinds", texts)


def _ordering(macros: Macros, report: Report) -> None:
    """Rank correlations of the objectives with accuracy."""
    found = report["spearman"]
    predicted, end = (np.array([a[name] for a in report["allocations"]]).T for name in ("predicted", "accuracy"))
    texts = {
        "End": fixed(correlation(predicted.mean(axis=0), end.mean(axis=0)), 2),
        "EndWithin": fixed(float(np.mean([correlation(p, a) for p, a in zip(predicted, end, strict=True)])), 2),
        "Means": fixed(found["predicted"]["of_means"], 2),
        "Within": fixed(float(np.mean(found["predicted"]["per_seed"])), 2),
        "Linear": fixed(found["predicted_linear"]["of_means"], 2),
        "Allocations": fixed(len(report["allocations"])),
        "Seeds": fixed(len(report["study"]["seeds"])),
        "Repeats": fixed(report["study"]["repeats"]),
    }
    macros.update("Order", texts)


def _counterexample(macros: Macros) -> None:
    """Measured over bound where the samples of a round are drawn with replacement, and each once."""
    drawn = {"Once": counterexample.EACH_ONCE, "Replaced": counterexample.WITH_REPLACEMENT}
    for name, orders in drawn.items():
        macros.add(f"Counter{name}", significant(counterexample.measured_over_bound(orders)))


def _over_measured(runs: list[dict[str, Any]], agree: bool | None = None) -> FloatArray:
    """Bound over measured; masks agree where all devices prune by the magnitude of the shared weights."""
    return np.array([
        run["bound_over_measured"] for run in runs if agree is None or (run["masks"] == "magnitude") == agree
    ])  # fmt: skip


def _first_number(text: str, noun: str) -> int:
    """``21360`` of ``violations in 21,360 rounds``."""
    found = re.search(rf"([\d,]+) {noun}", text)
    if found is None:
        raise ValueError(f"{text!r} does not say how many {noun}")
    return int(found[1].replace(",", ""))


def _tradeoff(macros: Macros, report: Report) -> None:
    """How both objectives order settings and allocations, within a deadline and across."""
    runs, study = by_seed(report["runs"]), report["study"]
    texts = {
        "Settings": fixed(len(study["settings"])),
        "Allocations": fixed(len(study["allocations"])),
        "Seeds": fixed(len(runs)),
        "Rounds": fixed(study["rounds"]),
        "Time": f"{study['unpruned_rounds']:g}",
    }
    for of in OBJECTIVES:
        for name, group in GROUPS.items():
            found = correlations(runs, group, of)
            key = f"{name.capitalize()}{of.capitalize()}"
            texts[key] = fixed(float(found.mean()), 2)
            texts[f"{key}Ci"] = between(*(fixed(end, 2) for end in interval(found)))
        texts[f"Given{of.capitalize()}"] = fixed(float(given_away(runs, GROUPS["time"], of).mean()), 1)
    macros.update("Tradeoff", texts)


def _map(macros: Macros, report: Report) -> None:
    cells = report["cells"]
    means = np.array([cell["time_percent"]["mean"] for cell in cells if cell["time_percent"]["mean"] is not None])
    half = [[v is not None and v <= 100 * SAVING for v in cell["time_percent"]["per_seed"]] for cell in cells]
    study = report["study"]
    slow = [c for c in cells if c["speed"] == min(study["speeds"]) and c["late"] > 0.5]
    macros.update("Map", {
        "Cells": fixed(len(cells)),
        "Seeds": fixed(len(study["seeds"])),
        "Range": between(fixed(means.min()), fixed(means.max())),
        "Every": fixed(sum(map(all, half))),
        "None": fixed(sum(not any(each) for each in half)),
        "Some": fixed(sum(any(each) and not all(each) for each in half)),
        "BandwidthRange": between(*(f"{f(study['bandwidths_hz']) / 1e6:g}" for f in (min, max))),
        "SpeedRange": between(*(f"{f(study['speeds']):g}" for f in (min, max))),
        "SlowLateRange": between(*(fixed(100 * f(c["late"] for c in slow)) for f in (min, max))) if slow else "none",
    })  # fmt: skip


def _scale(macros: Macros, report: Report) -> None:
    cells = [run for run in report["runs"] if "seed" in run]
    batches = [run for run in report["runs"] if "cells" in run]
    most = max(run["devices"] for run in cells)
    largest = [run for run in cells if run["devices"] == most]
    sample = claim(report, "sample")
    counts = [int(word.replace(",", "")) for word in re.findall(r"[\d,]+(?= phones)", sample["statement"])]
    gained = np.array([run["gained"] / run["gain_predicted"] for run in cells])
    many = max(batches, key=lambda run: run["cells"])
    macros.update("Scale", {
        "Most": fixed(most),
        "MostMs": significant(1e3 * float(np.median([run["wall_s"] for run in largest]))),
        "Cells": fixed(many["cells"]),
        "CellDevices": fixed(many["devices"]),
        "CellsMs": significant(1e3 * many["wall_s"]),
        "Sample": fixed(counts[0]),
        "SampleError": fixed(complete(sample["measured"]).max(), 3),
        "GainErrorPercent": significant(100 * float(np.abs(gained - 1).max()), 1),
        "Exponent": fixed(complete(claim(report, "exponent")["measured"]).mean(), 2),
        "Residual": power(max(run["worst_residual"] for run in report["runs"])),
    })  # fmt: skip


def _speed(macros: Macros, results: Results) -> None:
    """The ratios that the text names, from the table of timings."""
    wanted = {"Clarabel": ("K = 10:", "CVXPY+Clarabel cold"), "Ipopt": ("K = 10:", "IPOPT"), "Million": ("10^6", "`b*")}
    found: dict[str, list[float]] = {}
    for name, words in wanted.items():
        rows = [row for row in results.speed if all(word in row[0] for word in words)]
        if len(rows) != 1:
            raise ValueError(f"docs/speed.md has {len(rows)} rows with {' and '.join(words)}, not one")
        found[name] = [float(cell.strip("<>= ").replace(",", "")) for cell in rows[0][1:3]]
    macros.update("Speed", {name: significant(measured, 3) for name, (_, measured) in found.items()})
    macros.update("Speed", {"Small": "10", "Large": r"\ensuremath{10^6}"})  # the rows just found
    exact = [float(row[4]) for row in results.tightness if row[1] == "1"]
    two = [100 * (float(row[4]) - 1) for row in results.tightness if row[1] == "2"]
    tight = [ratio for ratio in exact if ratio < 1.0005]
    macros.update("Tight", {
        "Instances": fixed(len(results.tightness)),
        "OneStep": fixed(len(exact)),
        "Exact": fixed(len(tight)),
        "Uneven": fixed(max(exact), 1),
        "TwoStepPercent": between(fixed(min(two)), fixed(max(two))),
    })  # fmt: skip


def _harder(macros: Macros, report: Report) -> None:
    study, rows = report["study"], {row["scheme"]: row for row in report["schemes"]}
    texts = {
        "Devices": fixed(study["devices"]),
        "Seeds": fixed(len(study["seeds"])),
        "Rounds": fixed(study["rounds"]),
        "Samples": fixed(study["samples_per_device"]),
        "DeadlinePercent": fixed(100 * study["deadline_fraction"]),
        "TimeSharePercent": fixed(100 * study["time_share"]),
    }
    measured = {key: complete(claim(report, name)["measured"]) for key, name in HARDER.items() if key != "Target"}
    texts |= {"EndGap": apart(measured["End"]), "EndRange": spread(measured["End"], 2)["Range"]}
    rival = measured["VsAllocationOnly"]
    texts |= {
        "VsAllocationOnlyGap": apart(rival, "ahead", "behind"),
        "VsAllocationOnlyRange": spread(rival, 2)["Range"],
        "VsAllocationOnlyWins": of_seeds(rival > 0),
    }
    joint, common = (np.array(rows[name]["final_accuracy"]) for name in ("joint", "allocation_only"))
    ends = 100 * (joint - common)
    texts |= {"CommonEndGap": apart(ends, "ahead", "behind"), "CommonEndRange": spread(ends, 2)["Range"]}
    for key, values, digits in (
        ("Sooner", measured["Sooner"], 0),
        ("VsStatic", measured["VsStatic"], 2),
        ("VsPartial", measured["VsPartial"], 2),
        ("Fewer", -measured["Lost"], 1),
    ):
        text = spread(values, digits)
        texts |= {key: text[""], f"{key}Range": text["Range"]}
    for name in ("partial", "joint"):
        missing = 1 - np.mean(rows[name]["arrived_per_device"])
        texts[f"{name.capitalize()}MissingPercent"] = fixed(100 * missing, 1)
    macros.update("Harder", texts)
