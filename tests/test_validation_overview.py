"""The page that joins studies: what it begins with, in which order, and what it says of numbers alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_docs import results_of

from validation.difference.page import BEHIND
from validation.drives.page import said
from validation.overview import write_overview
from validation.report import interval_text, mean_text, minus
from validation.summary import CORRELATION, SHARE, Spread, verdict
from validation.tradeoff.page import interval


def study(name: str, claims: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """Numbers of a study as far as the page needs them."""
    origin = {"git_commit": "0123456789abcdef", "git_modified": False}
    return {
        "study": {"name": name, **more.pop("study", {})},
        "claims": claims,
        "provenance": origin,
        "where": name,
        **more,
    }


def claim(name: str, *values: float | None, **more: Any) -> dict[str, Any]:
    return {"id": name, "statement": f"statement of {name}", "measured": Spread(values).to_dict(), "unit": "units",
            "verdict": "holds", "note": "", **more}  # fmt: skip


ENTRY = {"tuned": [20.0, None, 24.0], "wide": [18.0, 20.0, 22.0]}
ADAPTIVE = study(
    "adaptive",
    [
        claim("joint-fill-chosen-rate7-tuned", 20.0, None, 24.0),
        claim("joint-fill-chosen-rate7-tuned-wide", 18.0, 20.0, 22.0, verdict="holds for 2 of 3 seeds"),
    ],
    study={"dataset": "digits", "model": "mlp"},
    entries={"joint-fill-chosen-rate7": ENTRY, "common-fill-chosen-rate1": ENTRY},
)
DIFFERENCE = study("difference", [claim("lower-half", 9.0, 9.5), claim("upper-half", 1.0, 2.0, 3.0)])


def drawn(folder: Path, **reports: dict[str, Any]) -> str:
    """The page of these numbers; names are the files'."""
    for name, report in reports.items():
        (folder / f"{name}.json").write_text(json.dumps(report), encoding="utf-8")
    page = write_overview([folder / f"{name}.json" for name in reports], folder / "out")
    return page.read_text(encoding="utf-8")


def top(text: str) -> str:
    """What comes before the table of studies."""
    return text.partition("<main>")[2].partition("<table")[0]


def test_verdicts_come_first_and_from_ids(tmp_path: Path) -> None:
    cards = top(drawn(tmp_path, a=DIFFERENCE, b=ADAPTIVE)).split('<div class="card ')[1:]
    assert len(cards) == 2  # no entry of the family with covered means
    # Mean 20, t_{0.975} with 2 degrees of freedom times 2 over the root of three; the same of 1, 2, 3.
    half = 4.302652729911275 * 2 / np.sqrt(3)
    for card, words in zip(
        cards,
        (
            ("partly", ">20 %<", f"95 % interval {20 - half:.0f} to {20 + half:.0f} %", "mean over all",
             "To half a point, never on 1 of 3 seeds", "statement of joint-fill-chosen-rate7-tuned-wide",
             "holds for 2 of 3 seeds"),
            ("held", ">2.00 points<", f"95 % interval −{half / 2 - 2:.2f} to {2 + half / 2:.2f} points", "upper-half"),
        ),
        strict=True,
    ):  # fmt: skip
        assert [word for word in words if word not in card] == []
    assert '<div class="verdicts">' not in top(drawn(tmp_path, c=study("map", [claim("time", 1.0, 2.0)])))


def test_the_committed_results_begin_with_three_verdicts() -> None:
    """Three, as `docs/report.md` begins: their numbers are held there."""
    report = results_of("adaptive-digits")
    for family in ("joint-fill-chosen-rate", "joint-covered-chosen-rate"):
        (name,) = [name for name in report["entries"] if name.startswith(family)]
        assert f"{name}-tuned-wide" in [found["id"] for found in report["claims"]]
    assert "upper-half" in [found["id"] for found in results_of("difference")["claims"]]


def test_what_is_claimed_now_comes_before_tuning_and_earlier_schemes(tmp_path: Path) -> None:
    names = ["ablation", "tuning", "unheard-of", "scale", "difference", "adaptive"]
    text = drawn(tmp_path, **{f"file{i}": study(name, []) for i, name in enumerate(names)})
    found = re.findall(r"<code>python -m validation (\S+)</code>", text)
    assert found == ["adaptive", "difference", "scale", "tuning", "ablation", "unheard-of"]
    sets = [
        ("mnist", "cnn"),
        ("subjects", "mlp"),
        ("writers", "mlp"),
        ("digits", "cnn"),
        ("mnist", "mlp"),
        ("digits", "mlp"),
    ]
    text = drawn(tmp_path, **{f"{d}{m}": study("adaptive", [], where=d + m, study={"dataset": d, "model": m})
                              for d, m in sets})  # fmt: skip
    order = ["digitsmlp", "mnistmlp", "writersmlp", "subjectsmlp", "digitscnn", "mnistcnn"]
    assert re.findall(r'<p class="where">(\w+)</p>', text) == order


def test_a_study_without_claims_shows_what_was_chosen_and_no_counts(tmp_path: Path) -> None:
    tuning = study("tuning", [], chosen={"joint-fill": "joint-fill-rate3"}, answer="an answer")
    text = drawn(tmp_path, a=tuning, b=study("map", [claim("time", 1.0)]))
    rows = text.partition("<tbody>")[2].partition("</tbody>")[0].split("</tr>")
    assert [re.findall(r'class="number">(.*?)</td>', row) for row in rows[:2]] == [["", "", ""], ["1", "0", "0"]]
    assert "<dt>joint-fill</dt><dd>joint-fill-rate3</dd>" in text
    assert "an answer" not in text


def test_a_section_says_of_what_it_is_and_where_it_comes_from(tmp_path: Path) -> None:
    changed = study("kinds", [claim("x", 6.0, unit="of 6 cells")], title="a < b", where="set & seeds")
    changed["provenance"]["git_modified"] = True
    old = study("latency", [], where="", study={"training": {"dataset": "mnist"}, "seeds": [100, 101]})
    kinds, latency = drawn(tmp_path, k=changed, latency=old).split("<section")[1:]
    assert '<h1>a &lt; b</h1>\n<p class="where">set &amp; seeds</p>' in kinds
    assert "at commit 0123456789ab, with local changes" in kinds
    assert '<p class="figure number">6</p>' in kinds
    assert '<p class="where">MNIST, seeds 100, 101</p>' in latency
    assert "local changes" not in latency


def test_an_interval_stays_within_what_is_possible() -> None:
    wide, most = (0.5, 0.9, 1.0), (0.9, 1.0, 1.0)
    assert Spread(wide).interval_95 == pytest.approx((0.1427, 1.4573), abs=1e-4)
    for values, possible in ((wide, CORRELATION), (most, CORRELATION), ((1.0, 9.0), SHARE)):
        spread = Spread(values, possible=possible)
        assert spread.interval_95 is spread.to_dict()["interval_95"] is None
    assert Spread((8.0, 9.0, 10.0), possible=SHARE).interval_95 == Spread((8.0, 9.0, 10.0)).interval_95
    assert interval_text(Spread(wide, possible=CORRELATION), 2) == "least 0.50, greatest 1.00 over seeds"
    assert interval_text(Spread((0.9,), possible=CORRELATION, own_interval_95=(-0.5, 1.0)), 2) == (
        "95 % interval −0.50 to 1.00"
    )
    assert interval_text(Spread((0.9,)), 2) == "one value"
    assert interval_text(Spread((2.0, 2.0)), 0) == "2 values, all the same"


def test_where_some_value_is_missing_there_is_no_mean() -> None:
    some, none = Spread((1.0, None, 3.0), "cells"), Spread((None, None))
    assert (mean_text(some), interval_text(some)) == ("a value on 2 of 3 cells", "so no mean; there 1.0 to 3.0")
    assert (mean_text(none), interval_text(none)) == ("no value on any of 2 seeds", "so no mean")
    assert mean_text(Spread((-1.0, -2.0)), 2) == "−1.50"
    assert verdict(some, lambda v: v < 2) == "holds for 1 of 3 cells"


@pytest.mark.parametrize(
    "spread",
    [
        Spread((1.0, None)),
        Spread((0.5, 0.9), "cells", CORRELATION, (0.1, 0.95)),
        Spread((1.0, 9.0), possible=SHARE),
        Spread((0.9,), own_interval_95=(0.2, 1.0)),
    ],
)
def test_a_spread_survives_json(spread: Spread) -> None:
    read = Spread.from_dict(json.loads(json.dumps(spread.to_dict())))
    assert (read.per_seed, read.over, read.possible, read.interval_95) == (
        spread.per_seed, spread.over, spread.possible, spread.interval_95,
    )  # fmt: skip
    assert read.to_dict() == spread.to_dict()


def test_minus_signs() -> None:
    assert minus("-0.5 (-0.07 to 0.8), x = -3, -.5") == "−0.5 (−0.07 to 0.8), x = −3, −.5"
    kept = "rate3-deadline0.4, 600-609, 1e-9, (a)-1, CIFAR-10, --seeds, a - b"
    assert minus(kept) == kept


def test_committed_claims_are_what_the_pages_now_say() -> None:
    """Of words and intervals that the code of the pages writes and docs/results hold."""
    for found in results_of("difference")["claims"]:
        if found["id"].startswith("lower-half"):
            assert found["verdict"] == verdict(Spread.from_dict(found["measured"]), lambda v: v >= -BEHIND)
            assert found["measured"]["over"] == "cells"
    spans = list(results_of("difference")["order_interval"].values())
    follows = [
        c["measured"]["interval_95"] for c in results_of("difference")["claims"] if c["id"].startswith("follows")
    ]
    assert follows == spans
    for name in ("ordering", "ordering-mnist", "ordering-fashion_mnist"):
        report = results_of(name)
        means, within = (found["measured"] for found in report["claims"][:2])
        assert means["interval_95"] == report["interval_of_means"]
        assert within["possible"] == [-1.0, 1.0]
    for found in results_of("tradeoff")["claims"]:
        values = np.array(found["measured"]["per_seed"])
        assert found["measured"]["interval_95"] == pytest.approx(interval(values), rel=1e-9)
    for found in results_of("map")["claims"]:
        now = Spread(tuple(found["measured"]["per_seed"]), possible=SHARE).to_dict()
        assert found["measured"] == json.loads(json.dumps(now))
    for name in ("drives", "drives-tuning"):
        for found in results_of(name)["claims"]:
            assert found["statement"].startswith(f"{said(found['id'].rpartition('-')[0])}: ")


def test_names_of_entries_in_words() -> None:
    assert said("unpruned-rate3") == "Unpruned training, server rate 3"
    assert said("joint-fill-rate1.5") == "Planned rounds, mean over all, server rate 1.5"
    assert said("joint-covered-frozen-feedback-steps4and3-rate2-0.62") == (
        "Planned rounds, covered means, frozen alone, error feedback, 4 personal and 3 global steps, server rate 2, "
        "0.62 of an unpruned round"
    )
