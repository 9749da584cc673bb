"""The study `harder`: drives as step functions, rounds along them, and a small run from files to page."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fltrain as ft
from kktalloc.links import Drives
from kktalloc.radio import BROADCAST
from kktalloc.traces import BAD_RSRP, NO_NETWORK, NO_SAMPLE, Trace, read_trace
from validation.__main__ import main
from validation.config import Radio
from validation.harder import page, study
from validation.harder.drive import RETRY_S, UNSENT, Fleet, Rules, go, start
from validation.harder.floor import floors
from validation.harder.traces import longest_drives
from validation.schemes import SCHEMES

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir() and os.environ.get("CI") != "true", reason="no ../shared/data")
HEAD = "Timestamp,NetworkMode,RSRP,RAWCELLID\n"
RULES = Rules(Radio(), patience=1.5, handover_s=0.0495)


def _stamp(second: int) -> str:
    return f"2020.01.01_10.{second // 60:02d}.{second % 60:02d}"


def _write(path: Path, rows: list[tuple[int, str, str, str]]) -> Path:
    path.write_text(HEAD + "".join(f"{_stamp(s)},{mode},{rsrp},{cell}\n" for s, mode, rsrp, cell in rows))
    return path


def test_a_file_becomes_steps(tmp_path: Path) -> None:
    rows = [
        (0, "LTE", "-90", "1"),
        (1, "5G", "-91", "1"),
        (1, "5G", "-80", "1"),  # the last row of a second counts
        (2, "LTE", "-85", "2"),  # handover
        (3, "HSPA+", "-60", "9"),
        (4, "LTE", "-95", "3"),  # back from an outage: not a handover
        (5, "LTE", "-", "3"),
        (6, "LTE", "-200", "3"),
        (7, "LTE", "-90", "3"),
        (12, "LTE", "-90", "3"),  # nothing from 9 to 12
    ]
    trace = read_trace(_write(tmp_path / "a.csv", rows), reference_signal_dbm=15.0)
    assert trace.time_s.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 9, 12]
    assert trace.outage.tolist() == ["", "", "", NO_NETWORK, "", BAD_RSRP, BAD_RSRP, "", NO_SAMPLE, ""]
    assert trace.gain[[0, 1, 2]] == pytest.approx([10**-10.5, 10**-9.5, 1e-10])
    assert ((trace.gain > 0) == (trace.outage == "")).all()
    assert np.flatnonzero(trace.handover).tolist() == [2]
    assert trace.in_service() == pytest.approx(6 / 12)
    assert trace.mean_gain_db() == pytest.approx((-105 - 95 - 100 - 110 - 2 * 105) / 6)
    assert [trace.step(t) for t in (0, 0.99, 1, 8.99, 9, 12)] == [0, 0, 1, 7, 8, 9]
    with pytest.raises(ValueError, match=r"drive a lasts 12 s, asked for its channel at 12\.5 s"):
        trace.step(12.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Timestamp,NetworkMode,RSRP\n", "no column RAWCELLID or CellID"),
        (HEAD + f"{_stamp(0)},LTE,loud,1\n", "row 2: could not convert"),
        (HEAD + "yesterday,LTE,-90,1\n", "row 2: time data 'yesterday'"),
        (HEAD + f"{_stamp(1)},LTE,-90,1\n{_stamp(0)},LTE,-90,1\n", "row 3: .* earlier"),
        (HEAD + f"{_stamp(1)},LTE,-90,1\n", "1 time stamps"),
    ],
)
def test_files_that_cannot_be_read(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=f"a.csv.*{message}"):
        read_trace(tmp_path / "a.csv", 15.0)


def test_the_longest_drives(tmp_path: Path) -> None:
    for name, seconds in (("c", 5), ("a", 9), ("b", 9), ("d", 3)):
        _write(tmp_path / f"{name}.csv", [(s, "LTE", "-90", "1") for s in range(seconds + 1)])
    assert [trace.name for trace in longest_drives(tmp_path, 3, 15.0)] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="has 4 drives"):
        longest_drives(tmp_path, 5, 15.0)


def _trace(gain: list[float], handover: tuple[int, ...] = ()) -> Trace:
    """Steps of one second; without a channel where the gain is 0."""
    values = np.array(gain)
    outage = np.where(values > 0, "", NO_NETWORK)
    return Trace("made up", np.arange(float(len(gain))), values, outage, np.isin(np.arange(len(gain)), handover))


def test_bits_go_out_at_the_rate_of_each_second() -> None:
    # B = 1 Hz and SNR = gain: 1, 2, 0, 3 bits per second, silence of a tenth at the handover into step 3.
    trace = _trace([1, 3, 0, 7, 7], handover=(3,))

    def sent(begin: float, bits: float) -> float:
        return trace.sent_at(begin, bits, 1.0, 1.0, 0.1)

    assert sent(0, 0.5) == pytest.approx(0.5)
    assert sent(0.5, 0.5) == pytest.approx(1.0)
    assert sent(0, 2.0) == pytest.approx(1.5)
    assert sent(0, 3.0) == pytest.approx(2.0)
    assert sent(0, 3.3) == pytest.approx(3.2)  # waits for second 3, then a tenth, then a tenth of a second
    assert sent(2.5, 0.3) == pytest.approx(3.2)
    assert sent(0, 6.0) == np.inf
    assert sent(9.0, 1.0) == np.inf
    assert trace.sent_at(0.25, 0.0, 0.0, 0.0, 0.1) == 0.25
    assert trace.sent_at(0.25, 1.0, 0.0, 0.0, 0.1) == np.inf


def _workload(K: int) -> ft.Workload:
    one = np.ones(K)
    return ft.Workload(
        personal_flops=1e8 * one, probe_flops=1e8 * one, pruned_flops=2e9 * one, payload_bits=1e7 * one,
        overhead_bits=3e5 * one, broadcast_bits=1e7 * one, weight=one / K, selected=one > 0,
    )  # fmt: skip


def _fleet(traces: list[Trace]) -> Fleet:
    drives = Drives(tuple(traces), np.zeros(len(traces)), RULES.radio.antennas, RULES.handover_s)
    return Fleet(drives, np.full(len(traces), 0.5))


def test_steady_channels_need_no_patience_and_no_second_plan() -> None:
    fleet = _fleet([_trace([gain] * 200) for gain in (1e-9, 1e-10, 1e-11)])
    unpruned = go(RULES, fleet, _workload(3), SCHEMES["partial"], rounds=5)
    assert np.diff(unpruned.end_s) == pytest.approx(unpruned.planned_s[1:])
    assert unpruned.arrived.all()
    assert (unpruned.pruning_ratio == 0).all()
    deadline = 0.6 * unpruned.planned_s[0]
    anew, once = (
        go(RULES, fleet, _workload(3), SCHEMES["joint"], deadline_s=deadline, static=static, rounds=5)
        for static in (False, True)
    )
    assert once.end_s == pytest.approx(anew.end_s)
    assert once.pruning_ratio == pytest.approx(anew.pruning_ratio)
    assert np.diff(anew.end_s, prepend=0) == pytest.approx(deadline)
    assert anew.arrived.all()
    assert anew.worst_residual <= 1e-9
    assert (anew.latency_s <= deadline * (1 + 1e-9)).all()
    part = go(RULES, fleet, _workload(3), SCHEMES["joint"], deadline_s=deadline, until_s=3.5 * deadline)
    assert len(part.end_s) == 3


def test_an_outage_at_the_start_of_a_round_leaves_a_phone_out() -> None:
    fleet = _fleet([_trace([1e-10] * 200), _trace([0.0] * 100 + [1e-10] * 100)])
    first = go(RULES, fleet, _workload(2), SCHEMES["partial"], rounds=1)
    assert first.asked.tolist() == [[True, False]]
    assert first.arrived.tolist() == [[True, False]]
    assert first.missing.tolist() == [["", NO_NETWORK]]
    alone = go(RULES, _fleet([fleet.drives.traces[0]]), _workload(1), SCHEMES["partial"], rounds=1)
    assert first.end_s == pytest.approx(alone.end_s)  # the whole band is for the one that is there


def test_an_outage_on_the_way_costs_the_servers_patience() -> None:
    going = [1e-10] + [0.0] * 199
    both = go(RULES, _fleet([_trace([1e-10] * 200), _trace(going)]), _workload(2), SCHEMES["partial"], rounds=1)
    assert both.missing.tolist() == [["", UNSENT]]
    assert both.end_s == pytest.approx(1.5 * both.planned_s)
    assert both.latency_s[0, 1] == pytest.approx(1.5 * both.planned_s[0])
    steady = go(RULES, _fleet([_trace([1e-10] * 200)] * 2), _workload(2), SCHEMES["partial"], rounds=1)
    assert both.energy_j[0, 1] > steady.energy_j[0, 1]  # it was on air until the end


def test_nobody_in_service() -> None:
    gone = _fleet([_trace([0.0] * 5 + [1e-10] * 195)] * 2)
    journey = go(RULES, gone, _workload(2), SCHEMES["joint"], deadline_s=3.0, rounds=6)
    assert journey.end_s[:5].tolist() == [RETRY_S * (i + 1) for i in range(5)]
    assert not journey.arrived[:5].any()
    assert journey.arrived[5].all()


def test_a_phone_that_cannot_meet_the_deadline_is_not_asked() -> None:
    fleet = _fleet([_trace([1e-10] * 200), _trace([1e-16] * 200)])
    alone = go(RULES, _fleet([fleet.drives.traces[0]]), _workload(1), SCHEMES["partial"], rounds=1)
    for scheme in ("joint", "allocation_only"):
        journey = go(RULES, fleet, _workload(2), SCHEMES[scheme], deadline_s=float(alone.end_s[0]), rounds=2)
        assert journey.asked.tolist() == [[True, False]] * 2
        assert journey.missing.tolist() == [["", BROADCAST]] * 2
    slow = replace(_fleet([fleet.drives.traces[0]] * 2), cycles_per_flop=np.array([0.5, 50.0]))
    journey = go(RULES, slow, _workload(2), SCHEMES["joint"], deadline_s=float(alone.end_s[0]), rounds=1)
    assert journey.missing.tolist() == [["", "deadline"]]


def test_handovers_between_rounds_are_counted() -> None:
    fleet = _fleet([_trace([1e-10] * 200, handover=(2, 150)), _trace([1e-10] * 200)])
    journey = go(RULES, fleet, _workload(2), SCHEMES["partial"], rounds=4)
    assert journey.handover.sum(axis=0).tolist() == [1, 0]


def test_places_on_the_drives() -> None:
    traces = (_trace([1e-10] * 1001), _trace([1e-10] * 101))
    fleet = start(traces, RULES, 100.0, seed=1)
    assert 0 <= fleet.drives.offset_s[0] <= 900
    assert fleet.drives.offset_s[1] == 0
    assert (start(traces, RULES, 100.0, seed=1).drives.offset_s == fleet.drives.offset_s).all()
    assert start(traces, RULES, 100.0, seed=2).drives.offset_s[0] != fleet.drives.offset_s[0]
    with pytest.raises(ValueError, match="horizon_s = 101 is longer"):
        start(traces, RULES, 101.0, seed=1)


TINY = replace(
    study.CONFIG, dataset="digits", seeds=(1,), rounds=3, devices=3, classes_per_device=3, samples_per_device=60,
    channels=(4, 8), horizon_s=60.0, batch_size=8, deadline_fraction=0.7, time_share=1.0,
    radio=Radio(bandwidth_hz=2e3),  # rounds of seconds: outages and handovers fall into them
)  # fmt: skip


def synthetic_drives(folder: Path) -> Path:
    """Data folder with three drives: one steady, one that fades and changes cells, one with outages."""
    (folder / "radio_traces" / "Driving").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in "abc":
        level = {
            "a": -90 + np.zeros(200),
            "b": -100 + 10 * np.sin(np.arange(200) / 9),
            "c": rng.uniform(-110, -80, 200),
        }
        rows = [
            (s, "HSPA+" if name == "c" and s % 20 < 10 else "LTE", f"{level[name][s]:.0f}", str(s // 4))
            for s in range(200)
        ]
        _write(folder / "radio_traces" / "Driving" / f"{name}.csv", rows)
    return folder


def _results(out: Path) -> dict[str, Any]:
    return {p.stem: json.loads(p.read_text())["result"] for p in (out / "runs").glob("*.json")}


def test_a_small_study_from_files_to_page(tmp_path: Path) -> None:
    data_dir = synthetic_drives(tmp_path / "data")
    out = tmp_path / "out"
    study.run(TINY, data_dir, out)
    found = _results(out)
    assert len(found) == 5
    assert not list((out / "state").iterdir())
    for run in found.values():
        rounds = len(run["time_s"])
        assert len(run["accuracy"]) == len(run["arrived"]) == rounds
        missing = np.array(run["missing_per_round"])
        assert (np.array(run["arrived"]) == (missing == "").sum(axis=1)).all()
        assert sum(run["missing"].values()) == (missing != "").sum()
        assert run["worst_residual"] <= 1e-9
    assert sum(run["missing"].get(NO_NETWORK, 0) for run in found.values()) > 0
    assert sum(np.sum(run["moved"]) for run in found.values()) > 0
    text = page.write(out).read_text(encoding="utf-8")
    assert "Claims and measurements" in text
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert {row["scheme"] for row in report["schemes"]} == set(TINY.schemes)


def test_what_no_pruning_shortens_by_kind_of_round(tmp_path: Path) -> None:
    found = floors(TINY, synthetic_drives(tmp_path / "data"), 1)
    assert 0.0 < found["zeroed"] < found["frozen"] < found["sparse"] < 1.0


def test_an_interrupted_run_gives_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data_dir = synthetic_drives(tmp_path / "data")
    small = replace(TINY, schemes=("partial", "joint"))
    study.run(small, data_dir, tmp_path / "whole")

    real, calls = ft.RoundPlan, 0

    def stop(*arguments: Any) -> ft.RoundPlan:
        nonlocal calls
        calls += 1
        if calls == 3:  # the third round of the first run
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(ft, "RoundPlan", stop)
    with pytest.raises(KeyboardInterrupt):
        study.run(small, data_dir, tmp_path / "cut")
    assert len(list((tmp_path / "cut" / "state").glob("partial-seed1-*.pt"))) == 1
    study.run(small, data_dir, tmp_path / "cut")
    later = len(_results(tmp_path / "whole")["partial-seed1"]["time_s"]) - 2  # two rounds were kept
    assert calls == 3 + later + len(_results(tmp_path / "whole")["joint-seed1"]["time_s"])
    assert _results(tmp_path / "cut") == _results(tmp_path / "whole")

    before = calls
    study.run(replace(small, schemes=("partial",), seeds=(1, 2)), data_dir, tmp_path / "cut")  # one more seed
    assert calls == before + len(_results(tmp_path / "cut")["partial-seed2"]["time_s"])
    with pytest.raises(ValueError, match=r"holds another study \(rounds is 3, not 4\)"):
        study.run(replace(small, rounds=4), data_dir, tmp_path / "cut")


def _run(accuracy: list[float], round_s: float) -> dict[str, Any]:
    return {"accuracy": accuracy, "time_s": [round_s * (t + 1) for t in range(len(accuracy))]}


def test_time_to_a_target_and_averages_over_time() -> None:
    slow, fast = _run([0.5] * 5 + [0.9] * 15, 2.0), _run([0.5] * 5 + [0.9] * 15, 1.0)
    # Averaged over 10 rounds: 0.9 from round 15 on, 0.7 from round 10 on.
    assert page.reached_s(slow, 0.9 - 1e-9) == pytest.approx(30.0)
    assert page.reached_s(fast, 0.7 - 1e-9) == pytest.approx(10.0)
    assert page.reached_s(fast, 0.91) is None
    # Both run from 2 s to 20 s; the fast one changes at 6 s, the slow one at 12 s.
    assert page.averages(fast, slow) == pytest.approx(((4 * 0.5 + 14 * 0.9) / 18, (10 * 0.5 + 8 * 0.9) / 18))


def test_claims_of_known_runs() -> None:
    def made(scheme: str, round_s: float, rounds: int, lost: int) -> dict[str, Any]:
        accuracy = [0.5] * 5 + [0.9] * (rounds - 5)
        return _run(accuracy, round_s) | {
            "scheme": scheme, "seed": 100, "missing": {UNSENT: lost} if lost else {}, "worst_residual": 1e-12,
            "arrived_per_device": [1 - lost / (2 * rounds)] * 2,
        }  # fmt: skip

    runs = {
        "partial": [made("partial", 1.0, 40, 0)],
        "fedavg": [made("fedavg", 1.2, 30, 0)],
        "allocation_only": [made("allocation_only", 0.5, 40, 0)],
        "static": [made("static", 0.6, 35, 7)],
        "joint": [made("joint", 0.4, 50, 5)],
    }
    found = {claim.id: claim for claim in page._claims(runs)}
    values = [claim.measured.per_seed[0] for claim in found.values()]
    assert values[0] == pytest.approx(40.0)
    assert values[1] == pytest.approx(0.0)
    assert values[2] == pytest.approx(40.0)  # both are at 0.9 from round 15 on
    assert values[7] == pytest.approx(100 * (5 / 100 - 7 / 70))
    assert {claim.verdict for claim in found.values()} == {"holds"}


@needs_shared
def test_the_measured_drives() -> None:
    traces = study.drives(study.CONFIG, SHARED)
    assert [trace.name for trace in traces[:2]] == ["B_2020.02.13_15.02.01", "B_2019.12.16_14.23.32"]
    assert traces[-1].duration_s == 1351
    for trace in traces:
        assert (np.diff(trace.time_s) > 0).all()
        assert 0.7 < trace.in_service() < 1
        assert -105 < trace.mean_gain_db() < -95
        assert trace.handover.any()
        assert not trace.handover[trace.gain == 0].any()


@needs_shared
def test_two_rounds_of_the_real_thing(tmp_path: Path) -> None:
    short = replace(study.CONFIG, rounds=2, samples_per_device=60)
    run = study.run_one(short, "joint", 1, SHARED, tmp_path)
    assert run["global_parameters"] == 287_456
    assert run["held_out_samples"] == 10 * 18
    assert run["worst_residual"] <= 1e-9
    assert 0 < run["pruning_ratio_mean"] < 0.8


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    without = tmp_path / "without"
    for folder in (without, tmp_path / "cifar10", tmp_path / "radio_traces"):
        folder.mkdir()
    for arguments, message in (
        (["--dataset", "digits"], "--dataset digits does not apply to harder"),
        ([], "--data-dir is needed for harder: a folder with cifar10 and radio_traces"),
        (["--data-dir", str(without)], f"--data-dir {without}: there is no folder cifar10 in it"),
        (["--data-dir", str(tmp_path)], "Driving has 0 drives (*.csv), the study needs 10"),
        (["--rounds", "0"], "rounds must lie in [1, 100000], got 0"),
    ):
        assert main(["harder", "--out", str(tmp_path / "out"), *arguments]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
