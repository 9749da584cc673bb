"""What is computed and drawn from results files, on a study whose curves are known."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from validation_runs import DEVICES, ROUNDS, small_study, write_study

from validation import results
from validation.__main__ import main
from validation.measures import MARGIN, WINDOW
from validation.report import spread_text, write_report
from validation.summary import (
    Claim,
    Spread,
    cards,
    claims,
    load_study,
    scheme_table,
    targets,
)


class _Page(HTMLParser):
    """Everything in a page that could load something, and its ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("link", "script", "img", "iframe", "object", "embed", "video", "audio", "source", "base"):
            self.loads.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href", "srcset", "data", "action") and not (value or "").startswith("#"):
                self.loads.append(f"{tag} {name}={value}")


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    out = tmp_path / "study"
    write_study(out, small_study())
    return out


def test_page_is_self_contained_and_its_references_resolve(finished: Path) -> None:
    text = write_report(finished).read_text(encoding="utf-8")
    page = _Page(text)
    assert page.loads == []
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []
    assert len(page.ids) == len(set(page.ids)), "an id appears twice, so figures would share clip paths"
    wanted = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'href="#([^"]+)"', text))
    assert wanted
    assert wanted <= set(page.ids)


def test_same_results_give_the_same_page(finished: Path) -> None:
    first = write_report(finished).read_bytes()
    assert write_report(finished).read_bytes() == first


def test_no_report_from_an_unfinished_study(finished: Path) -> None:
    results.run_path(finished, "joint", 1).unlink()
    with pytest.raises(ValueError, match=r"joint-seed1\.json is missing"):
        write_report(finished)
    assert sorted(p.name for p in finished.iterdir()) == ["runs", "study.json"]


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 99}'])
def test_a_broken_results_file_is_named(finished: Path, content: str) -> None:
    results.run_path(finished, "equal", 0).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"equal-seed0\.json"):
        write_report(finished)


def test_times_and_targets_follow_from_the_curves(finished: Path) -> None:
    _, runs = load_study(finished)
    # 0.1 five times, then 0.9: the average over 10 rounds is (3 * 0.1 + 7 * 0.9) / 10 in the last of 12 rounds.
    assert WINDOW == 10
    assert ROUNDS == 12
    assert runs["partial"][0].smoothed[-1] == pytest.approx(0.66)
    assert targets(runs) == pytest.approx([0.66 - MARGIN] * 2)
    assert runs["partial"][0].time_to(0.66 - MARGIN) == pytest.approx(12.0)
    assert runs["joint"][0].time_to(0.66 - MARGIN) == pytest.approx(6.0)
    assert runs["fedavg"][0].time_to(0.66 - MARGIN) is None
    assert runs["joint"][0].accuracy_at(0.4) is None
    assert runs["joint"][0].accuracy_at(0.5) == pytest.approx(0.1)
    rows = {row["scheme"]: row for row in scheme_table(runs)}
    assert rows["equal"]["pruning_ratio"].mean == pytest.approx(0.8)
    assert rows["equal"]["round_s"].per_seed == pytest.approx((0.5, 0.5))
    assert rows["fedavg"]["time_to_target_s"].mean is None


@pytest.mark.parametrize(
    ("speed", "loss", "time_percent", "time_verdict", "half_points", "half_verdict"),
    [
        (0.5, 0.0, 50.0, "holds", 0.0, "holds"),
        (0.6, 0.0, 60.0, "does not hold", -16.0, "does not hold"),  # only 10 rounds fit into half of the time
        (0.5, 0.02, None, "does not hold", -1.4, "does not hold"),
    ],
)
def test_verdicts(
    tmp_path: Path,
    speed: float,
    loss: float,
    time_percent: float | None,
    time_verdict: str,
    half_points: float,
    half_verdict: str,
) -> None:
    write_study(tmp_path / "s", small_study(), joint_speed=speed, joint_loss=loss)
    time, _, half, latency, *_ = claims(load_study(tmp_path / "s")[1])
    assert time.measured.mean == (None if time_percent is None else pytest.approx(time_percent))
    assert (time.verdict, half.verdict) == (time_verdict, half_verdict)
    assert half.measured.mean == pytest.approx(half_points)
    assert latency.measured.mean == pytest.approx(100 * speed)
    write_report(tmp_path / "s")


@pytest.mark.parametrize(
    ("speed", "loss", "says", "held"),
    [
        (0.5, 0.0, "in 50 % of its simulated time (mean, range over seeds); at most 50 % on all of 2 seeds", True),
        (0.6, 0.0, "in 60 % of its simulated time (mean, range over seeds); at most 50 % on none of 2 seeds", False),
        (0.5, 0.02, "in no finite share of its simulated time", False),
    ],
)
def test_the_answer_gives_the_mean_before_the_verdict(
    tmp_path: Path, speed: float, loss: float, says: str, held: bool
) -> None:
    write_study(tmp_path / "s", small_study(), joint_speed=speed, joint_loss=loss)
    text = write_report(tmp_path / "s").read_text(encoding="utf-8")
    assert says in text
    assert ('<p class="answer held">' in text) is held


def test_the_answer_gives_the_range_and_on_how_many_seeds(finished: Path) -> None:
    path = results.run_path(finished, "joint", 1)
    run = json.loads(path.read_text(encoding="utf-8"))
    for part in ("broadcast_s", "local_s", "pruned_s", "upload_s", "energy_j"):
        run["allocation"][part] = (1.5 * np.array(run["allocation"][part])).tolist()
    results.write_json(path, run)
    text = write_report(finished).read_text(encoding="utf-8")
    assert "in 62 % (50 to 75) of its simulated time (mean, range over seeds); at most 50 % on 1 of 2 seeds" in text
    assert "125 % (100 to 150) of what equal shares spend" in text
    assert '<p class="answer">' in text


def test_claims_against_equal_shares(tmp_path: Path) -> None:
    write_study(tmp_path / "s", small_study())
    named = {claim.id: claim for claim in claims(load_study(tmp_path / "s")[1])}
    # The equal scheme ends at 0.8 and never gets there: no time to compare, so nothing that holds.
    assert named["sooner-equal"].measured.per_seed == (None, None)
    assert named["sooner-equal"].verdict == "does not hold"
    # 7 of the last 10 rounds are at 0.9 against 0.8.
    assert named["worst-phone"].measured.mean == pytest.approx(7.0)
    assert named["worst-phone"].verdict == named["energy-equal"].verdict == named["energy-unpruned"].verdict == "holds"
    assert named["energy-equal"].measured.mean == pytest.approx(100.0)


def test_one_bad_seed_shows_in_the_verdict(finished: Path) -> None:
    path = results.run_path(finished, "joint", 1)
    run = json.loads(path.read_text(encoding="utf-8"))
    run["allocation"]["worst_residual"] = 1e-6
    results.write_json(path, run)
    assert claims(load_study(finished)[1])[-1].verdict == "holds for 1 of 2 seeds"


def test_accuracy_averaged_over_time(finished: Path) -> None:
    _, runs = load_study(finished)
    found = {claim.id: claim for claim in claims(runs)}
    gap = found["faster-equal"]
    # Both end at 6 s; from 0.5 s to 3 s both are at 0.1, then 0.9 against 0.8.
    assert gap.measured.mean == pytest.approx(100 * 0.1 * 3.0 / 5.5)


def test_json_report_agrees_with_the_claims(finished: Path) -> None:
    write_report(finished)
    found = json.loads((finished / "report.json").read_text(encoding="utf-8"))
    study, runs = load_study(finished)
    assert [c["measured"]["mean"] for c in found["claims"]] == [c.measured.mean for c in claims(runs)]
    assert found["study"]["training"]["devices"] == DEVICES == study.training.devices
    assert {row["scheme"] for row in found["schemes"]} == set(study.schemes)


def test_spread_text_never_averages_over_the_seeds_that_got_there() -> None:
    assert spread_text(Spread((1.0, 2.0, 3.0))) == "2.0 (1.0 to 3.0)"
    assert spread_text(Spread((2.0, 2.0))) == "2.0"
    assert spread_text(Spread((1.0, None))) == "1 of 2 seeds (1.0)"
    assert spread_text(Spread((None, None))) == "never"
    assert spread_text(Spread((-0.5, -0.5)), 2) == "−0.50"
    assert spread_text(Spread((2e-15,)), None) == "2e−15"


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    results.write_json(path, {"old": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        results.write_json(path, {"new": float("nan")})

    def refuse(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        results.write_json(path, {"new": np.arange(3)})
    assert json.loads(path.read_text(encoding="utf-8")) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_the_report_does_not_load_torch() -> None:
    code = "import validation.report, validation.command, sys; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_config_survives_json() -> None:
    from validation.config import Study, from_dict, to_dict

    study = replace(small_study(), deadline_fraction=0.3)
    assert from_dict(Study, json.loads(json.dumps(to_dict(study)))) == study
    broken = to_dict(study)
    broken["radio"]["antenas"] = 3
    with pytest.raises(ValueError, match="Radio: unknown or missing field 'antenas'"):
        from_dict(Study, broken)


def test_an_overview_of_the_committed_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["overview", "--out", str(tmp_path / "all")]) == 0
    text = (tmp_path / "all" / "report.html").read_text(encoding="utf-8")
    assert _Page(text).loads == []
    studies = json.loads((tmp_path / "all" / "report.json").read_text(encoding="utf-8"))["studies"]
    assert len(studies) == len(list((Path(__file__).parent.parent / "docs" / "results").glob("*.json")))
    claims = [claim for study in studies for claim in study["claims"]]
    assert text.count('<td data-label="Verdict"') == len(claims)
    other = tmp_path / "other.json"
    other.write_text("{}", encoding="utf-8")
    capsys.readouterr()
    assert main(["overview", str(other), "--out", str(tmp_path / "bad")]) == 2
    assert "other.json holds no numbers of a study" in capsys.readouterr().err


def test_studies_on_one_page(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_report(finished)
    assert main(["overview", str(finished), str(finished), "--out", str(tmp_path / "all")]) == 0
    text = (tmp_path / "all" / "report.html").read_text(encoding="utf-8")
    page = _Page(text)
    assert page.loads == []
    assert len(page.ids) == len(set(page.ids))
    wanted = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'href="#([^"]+)"', text))
    assert wanted <= set(page.ids)
    assert len(json.loads((tmp_path / "all" / "report.json").read_text(encoding="utf-8"))["studies"]) == 2
    capsys.readouterr()
    for arguments, says in (
        (["overview", str(tmp_path / "none")], "report.html does not exist"),
        (["scale", "somewhere"], "unexpected argument: somewhere"),
    ):
        assert main([*arguments, "--out", str(tmp_path / "bad")]) == 2
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1
    assert not (tmp_path / "bad").exists()


def test_cards_are_judged_and_no_two_say_the_same_number() -> None:
    def claim(value: float, verdict: str) -> Claim:
        return Claim(f"{value} {verdict}", Spread((value,)), 1, "%", verdict, "", id=f"{value}-{verdict}")

    found = [claim(1.0, "holds"), claim(1.0, "does not hold"), claim(2.0, "given"), claim(3.0, "holds"),
             claim(4.0, "does not hold"), claim(5.0, "holds")]  # fmt: skip
    assert cards(found) == [found[0], found[3], found[4]]
    assert cards(found[:2]) == found[:1]
