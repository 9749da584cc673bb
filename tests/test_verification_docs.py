"""What docs/verification.md, report.md and evidence.md say of the bound's studies is what docs/results hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import kktalloc.proof
from kktalloc.proof._report import theories
from validation.bound.hypotheses_page import compared
from validation.ordering.page import correlation

DOCS = Path(__file__).parent.parent / "docs"


def _text(page: str) -> str:
    return " ".join((DOCS / f"{page}.md").read_text(encoding="utf-8").split())


def _results(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DOCS / "results" / f"{name}.json").read_text(encoding="utf-8"))
    return found


def _ratios(runs: list[dict[str, Any]], gap: str) -> np.ndarray:
    return np.array([run[f"{gap}_gap_over_gradient"] for run in runs])


def test_guarantees_by_schedule() -> None:
    runs = _results("bound")["kinds"]
    text = _text("verification")
    without: dict[int, list[float]] = {1: [], 5: []}
    for update in ("zeroed", "frozen", "sparse"):
        for steps, batch, gradients in ((1, None, "full"), (5, 32, "batch of 32")):
            group = [r for r in runs if (r["update"], r["local_steps"], r["batch"]) == (update, steps, batch)]
            bare, gap = _ratios(group, "without"), np.median(_ratios(group, "with"))
            without[steps].append(float(np.median(bare)))
            row = (
                f"| {update} | {steps} | {gradients} | {len(group)} | {np.median(bare):.1f} "
                f"({bare.min():.2f} to {bare.max():.1f}) | {gap:.0f} |"
            )
            assert row in text, row
    pooled = [[r for r in runs if r["update"] == update] for update in ("zeroed", "frozen", "sparse")]
    bare = ["{:.1f}".format(np.median(_ratios(of, "without"))) for of in pooled]
    gap = ["{:.0f}".format(np.median(_ratios(of, "with"))) for of in pooled]
    assert f"{bare[0]}, {bare[1]} and {bare[2]} without the gap, {gap[0]}, {gap[1]} and {gap[2]} with it" in text
    easy, hard = without[1], without[5]
    report = _text("report")
    assert (
        "{:.1f} times the squared gradient in zeroed rounds, {:.1f} in frozen and {:.1f} in sparse ones".format(*easy)
        in report
    )
    assert "and {:.1f}, {:.1f} and {:.1f} with five on batches of 32".format(*hard) in report
    assert "With the gap it is {}, {} and {} times".format(*gap) in report
    evidence = _text("evidence")
    least, most = min(map(int, gap)), max(map(int, gap))
    assert f"errors {least} to {most} times the squared gradient after 8 rounds, nearly all" in evidence
    assert f"other terms are {min(easy):.1f} to {max(easy):.1f} times it with one local step" in evidence
    assert f"{min(hard):.1f} to {max(hard):.1f} with five on batches" in evidence


def test_comparisons_and_rounding() -> None:
    report = _results("bound")
    runs, text = report["kinds"], _text("verification")
    rounds = report["study"]["kind_rounds"]
    assert f"only {rounds} rounds" in text
    assert f"in {rounds * sum(len(compared(run)) for run in runs):,} comparisons" in text
    above = [pair for run in runs for pair in run["beside"].values() if pair["violations"]]
    assert {(pair["violations"], pair["bound"]) for pair in above} == {(rounds, 0.0)}
    assert max(pair["measured"] for pair in above) < 1e-31  # as the page says
    assert f"the {len(above)} such sparse runs" in text
    smoothness = [run["smoothness"][0] for run in runs]
    assert f"is {min(smoothness):.1f} to {max(smoothness):.1f}" in text


def test_order_of_allocations() -> None:
    report = _results("ordering")
    text = _text("verification")
    table = {name: np.array([a[name] for a in report["allocations"]]).T for name in report["allocations"][0]
             if name not in ("allocation", "accuracy_averaged_each")}  # fmt: skip
    found = {}
    for key, objective in (("predicted", "measured tail sums"), ("predicted_linear", "mean pruning ratio")):
        for measure, when in (("accuracy_averaged", "over training"), ("accuracy", "at the end")):
            values, accuracy = table[key], table[measure]
            each = [correlation(v, a) for v, a in zip(values, accuracy, strict=True)]
            means = correlation(values.mean(axis=0), accuracy.mean(axis=0))
            found[key, when] = means, float(np.mean(each)), each
            row = (
                f"| {objective} | {when} | {means:.2f} | {np.mean(each):.2f} | {', '.join(f'{e:.2f}' for e in each)} |"
            )
            assert row in text, row
    assert sum(e < 0 for e in found["predicted", "at the end"][2]) == 1  # "in one of eight seeds"
    seeds = report["study"]["seeds"]
    least, within = min(zip(found["predicted", "over training"][2], seeds, strict=True))
    (apart,) = 100 * np.ptp(table["accuracy_averaged"][[seeds.index(within)]], axis=1)
    assert f"{found['predicted', 'over training'][1]:.2f} on average: on seed {within} it is {least:.2f}, where" in text
    assert f"within {apart:.1f} points" in text
    assert np.ptp(np.sort(100 * table["accuracy_averaged"].mean(axis=0))[-4:]) < 0.2  # "the four best"
    longer = dict(zip(seeds, 100 * table["longer"][:, 0], strict=True))
    assert np.all(table["longer"] == table["longer"][:, :1])  # alike for all allocations
    often = [longer.pop(seed) for seed in (720, 727, 723, 726)]
    assert often[-1] == 0.0
    assert (
        "{:.0f} % of the rounds of seed 720, {:.0f} % of seed 727, {:.0f} % of seed 723, none of seed 726 and ".format(
            *often[:-1]
        )
        + f"{min(longer.values()):.0f} to {max(longer.values()):.0f} % of the others"
        in text
    )
    single = float(np.mean(report["spearman_of_single_trainings"]))
    assert f"With one training instead of four it is {single:.2f} within a seed" in text
    (means, within, _), (end, within_end, each) = found["predicted", "over training"], found["predicted", "at the end"]
    page = _text("report")
    assert f"{means:.2f} with accuracy averaged over training and {end:.2f} with that at the end" in page
    assert (
        f"it is {within:.2f} over training and {within_end:.2f} at the end ({min(each):.2f} to {max(each):.2f})" in page
    )
    assert f"ratio has {found['predicted_linear', 'over training'][0]:.2f} over training" in page


def test_facts_that_are_trusted() -> None:
    derived = theories()
    facts = {key: {fact.name: str(fact.claim) for fact in theory.facts} for key, theory in derived.items()}
    text = _text("verification")

    def beyond(theory: str, known: str) -> int:
        return len(facts[theory].keys() - facts[known].keys())

    for theory in ("measured", "sparse", "feedback", "implied"):
        assert f"| `given(...)` in `_{theory}.py` | {beyond(theory, 'convergence')} facts |" in text, theory
    assert f"| `given(...)` in `_momentum.py` | {beyond('momentum', 'feedback')} facts |" in text
    assert f'theory "linear_rate" | {beyond("linear_rate", "measured")} facts |' in text
    assert f"the theorem assumes ({len(facts['convergence'])} facts and the signs)" in text
    corollaries = sum(beyond(theory, "convergence") for theory in ("target", "one_step"))
    for name, count in (
        ("corollaries", corollaries),
        *((theory, len(facts[theory])) for theory in ("lemmas", "allocation", "priced")),
        ("clock*", len(facts["clock"])),  # and its siblings
    ):
        assert f"| `given(...)` in `_{name}.py` | {count} facts |" in text, name
    calls = (Path(kktalloc.proof.__file__).parent / "ready.py").read_text(encoding="utf-8").count("theory.given(")
    assert f"| `given(...)` in `ready.py` | {calls} calls |" in text


def test_steps_that_the_theory_page_names() -> None:
    """Names of the table on the clock, one to a semicolon, and those in italics of the section on prices."""
    page = (DOCS / "theory.md").read_text(encoding="utf-8")
    clock, priced = ({step.name for step in theories()[key].steps} for key in ("clock", "priced"))
    section = page.split("## A clock and electronics\n")[1].split("\n## ")[0]
    rows = [line.split(" | ")[1].rstrip(" |") for line in section.splitlines() if line.startswith("| ")][1:]
    named = {name.strip() for row in rows for name in row.split(";")}
    assert named <= clock, named - clock
    assert {name for name in clock if name.startswith("B ") or " to " in name} <= named
    section = " ".join(page.split('Steps of theory "priced":')[1].split("\n## ")[0].split())
    italics = set(section.split("*")[1::2])
    assert len(italics) == 9
    assert italics <= priced, italics - priced
