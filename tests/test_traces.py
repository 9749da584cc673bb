"""Drives and simulated channels as step functions: what can be read is read, what cannot is named with its row."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kktalloc.channel import db_to_linear
from kktalloc.traces import (
    BAD_RSRP,
    NO_GAIN,
    NO_NETWORK,
    NO_SAMPLE,
    path_gain,
    read_csv,
    read_trace,
    steps,
    strongest_cell,
)
from validation.harder.traces import longest_drives

COLUMNS = "Timestamp,Longitude,Latitude,Operatorname,CellID,NetworkMode,RSRP,RSRQ,RAWCELLID"
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "radio_traces"


def row(second: int, rsrp: str = "-95", mode: str = "LTE", cell: str = "7001", operator: str = "X") -> str:
    return f"2021.03.04_10.{second // 60:02d}.{second % 60:02d},0.0,0.0,{operator},1,{mode},{rsrp},-11,{cell}"


def write(path: Path, lines: list[str], encoding: str = "utf-8", end: str = "\n") -> Path:
    path.write_text("\n".join(lines) + end, encoding=encoding, newline="")
    return path


DAY = "2021-03-04T10:00:"
GOOD = [COLUMNS, *(row(s) for s in range(6))]


@pytest.mark.parametrize("cut", [row(6)[:n] for n in (1, 8, 19, 23, 40)])
@pytest.mark.parametrize("end", ["\n", "", "\r\n", "\n\n"])
def test_a_last_row_that_was_cut_short_is_left_out(tmp_path: Path, cut: str, end: str) -> None:
    whole = read_trace(write(tmp_path / "whole.csv", GOOD), 18.2)
    found = read_trace(write(tmp_path / "cut.csv", [*GOOD, cut], end=end), 18.2)
    np.testing.assert_array_equal(found.time_s, whole.time_s)
    np.testing.assert_array_equal(found.gain, whole.gain)


def test_a_row_cut_short_before_others_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"b\.csv, row 4: 6 cells where the header has 9"):
        read_trace(write(tmp_path / "b.csv", [*GOOD[:3], row(2)[:34], *GOOD[4:]]), 18.2)


@pytest.mark.parametrize("text", ["", " ", "-", "nan", "NaN", "null", "N/A", "-200", "0"])
def test_a_missing_rsrp_is_an_outage(tmp_path: Path, text: str) -> None:
    found = read_trace(
        write(tmp_path / "a.csv", [COLUMNS, *(row(s, text if s == 3 else "-95") for s in range(6))]), 18.2
    )
    assert found.outage.tolist() == ["", "", "", BAD_RSRP, "", ""]
    assert found.gain[3] == 0
    assert not found.handover.any()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace(",X,", ",T\xe9l\xe9com,").encode("latin-1"),
        lambda text: text.replace(COLUMNS, COLUMNS.replace(",", ", ")).encode(),
        lambda text: text.replace(",X,", ',"A, B",').encode(),
        lambda text: "\n".join(line + ",more" for line in text.splitlines()).encode(),
    ],
    ids=["byte-order mark", "CRLF", "latin-1", "spaces", "quotes", "more columns"],
)
def test_forms_of_the_same_file(tmp_path: Path, change: Callable[[str], bytes]) -> None:
    path = write(tmp_path / "a.csv", GOOD)
    want = read_trace(path, 18.2)
    path.write_bytes(change(path.read_text()))
    found = read_trace(path, 18.2)
    np.testing.assert_array_equal(found.gain, want.gain)
    np.testing.assert_array_equal(found.time_s, want.time_s)


def test_without_rawcellid_the_cell_is_cellid(tmp_path: Path) -> None:
    head = COLUMNS.removesuffix(",RAWCELLID")
    lines = [f"2018.01.02_10.00.{s:02d},0.0,0.0,A,{2 if s < 3 else 3},LTE,{-110 - s},-14" for s in range(6)]
    found = read_trace(write(tmp_path / "4g.csv", [head, *lines]), 18.2)
    assert found.handover.tolist() == [False, False, False, True, False, False]
    with pytest.raises(ValueError, match=r"none\.csv has no column RAWCELLID or CellID"):
        read_trace(write(tmp_path / "none.csv", ["Timestamp,NetworkMode,RSRP", "2018.01.02_10.00.00,LTE,-90"]), 18.2)


def test_a_drive_without_any_service(tmp_path: Path) -> None:
    found = read_trace(write(tmp_path / "a.csv", [COLUMNS, *(row(s, mode="UMTS") for s in range(6))]), 18.2)
    assert set(found.outage) == {NO_NETWORK}
    assert (found.in_service(), found.mean_gain_db()) == (0.0, -np.inf)
    assert found.sent_at(0.0, 1.0, 1e6, 1e12, 0.1) == np.inf


@pytest.mark.parametrize(
    "content", [b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X" + bytes(200), b"", b"\xff\xfeT\x00i\x00"]
)
def test_what_is_no_drive_is_named_and_companions_of_files_are_passed_over(tmp_path: Path, content: bytes) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.csv", GOOD)
        (tmp_path / f"._{name}.csv").write_bytes(content)
    assert [trace.name for trace in longest_drives(tmp_path, 2, 18.2)] == ["a", "b"]
    with pytest.raises(ValueError, match=r"\._a\.csv has no column Timestamp"):
        read_trace(tmp_path / "._a.csv", 18.2)
    (tmp_path / "c.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"c\.csv has no column Timestamp"):
        longest_drives(tmp_path, 2, 18.2)


@pytest.mark.parametrize(
    ("lines", "options", "says"),
    [
        (["time_s,gain_db", "0,-90", "1,loud", "2,-90"], {}, r"row 3: could not convert"),
        (["time_s,gain_db", "0,-90", "soon,-90", "2,-90"], {}, r"row 3: could not convert"),
        (["time_s,gain_db", "0,-90", ",-90", "2,-90"], {}, r"row 3: time_s = : must be a finite"),
        (["time_s,gain_db", "nan,-90", "1,-90", "2,-90"], {}, r"row 2: time_s = nan: must be a finite"),
        (["time_s,gain_db", "0,-90", "1,-90", "inf,-90"], {}, r"row 4: time_s = inf: must be a finite"),
        (["time_s,gain_db", f"{DAY}01,-90", f"{DAY}02+00:00,-90"], {}, r"row 3: time_s = \S+02\+00:00: a time zone"),
        (["time_s,gain_db", f"{DAY}01Z,-90", f"{DAY}02,-90"], {}, r"row 3: time_s = \S+02: a time zone"),
        (["time_s,gain_db", f"{DAY}01,-90", "5,-90"], {}, r"row 3: time_s = 5: seconds in this row"),
        (["time_s,gain_db", "5,-90", f"{DAY}01,-90"], {}, r"row 3: time_s = \S+01: seconds in this row"),
        (["time_s,gain_db", "1,-90", "0,-90"], {}, r"row 3: time_s = 0 is earlier"),
        (["time_s,gain_db", "0,-90"], {}, r"1 time stamps; a drive needs 2"),
        (["time_s,gain_db"], {}, r"0 time stamps"),
        (["t,gain_db", "0,-90"], {}, r"no column time_s"),
        (["time_s,gain_db", "0,-90", "1,-90"], {"cell": "pci"}, r"no column pci"),
        (["time_s,gain_db", "0,5000", "1,-90"], {}, r"row 2: gain_db = 5000 dB: must be finite"),
        (["time_s,gain_db", "0,-90", "1,inf"], {}, r"row 3: gain_db = inf dB: must be finite"),
        (["time_s,gain_db", "0,-90", "1,1e308"], {}, r"row 3: gain_db = 1e308 dB: must be finite"),
    ],
)
def test_what_a_plain_table_cannot_say_is_named(
    tmp_path: Path, lines: list[str], options: dict[str, str], says: str
) -> None:
    with pytest.raises(ValueError, match=rf"t\.csv.*{says}"):
        read_csv(write(tmp_path / "t.csv", lines), **options)  # type: ignore[arg-type]


def test_a_path_loss_is_not_taken_for_a_gain_in_silence(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", ["time_s,gain_db", "0,-90", "1,100", "2,-90"])
    says = ": a linear gain of more than 1, .*a path loss in dB is a path gain with a minus"
    with pytest.warns(UserWarning, match=rf"t\.csv, row 3: gain_db = 100 dB{says}") as caught:
        read_csv(path)
    with pytest.warns(UserWarning, match=rf"walk: gain\[1\] = 1e\+10{says}"):
        steps("walk", [0, 1, 2], [0.5, 1e10, 0.5])
    with pytest.warns(UserWarning, match=rf"a\.csv, row 2: RSRP = -\d+ dBm, of -100 dBm sent{says}") as more:
        read_trace(write(tmp_path / "a.csv", GOOD), -100.0)
    assert {Path(w.filename).name for w in (*caught, *more)} == {"test_traces.py"}  # who called is named
    with pytest.raises(ValueError, match=r"reference_signal_dbm = nan: must be finite"):
        read_trace(tmp_path / "a.csv", np.nan)
    assert steps("edge", [0, 1], [1.0, 1.0]).gain.tolist() == [1, 1]


def test_samples_that_do_not_hold_until_the_next_are_warned_of(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", ["time_s,gain_db", *(f"{5 * i},-90" for i in range(6))])
    with pytest.warns(UserWarning, match=r"t\.csv: samples are usually 5 s apart and hold for hold_s = 2 s"):
        assert read_csv(path).in_service() == pytest.approx(0.4)
    assert read_csv(path, hold_s=5.0).in_service() == 1.0


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", ["time;gain_db", "0;-90"])
    with pytest.raises(ValueError, match=r"t\.csv has no column time_s; it has time;gain_db$"):
        read_csv(path)


def test_a_drive_that_is_driven_again(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", ["t,g,c", "5,-90,a", "6,,a", "7,-80,b", "9.5,-70,c", "10,-60,d"])
    once = read_csv(path, time="t", gain_db="g", cell="c")
    more = once.repeated(12.0)
    assert more.duration_s == 15.0
    assert (np.diff(more.time_s) > 0).all()
    at = np.linspace(0, 14.99, 77)
    assert [more.gain_at(t) for t in at] == [once.gain_at(t % 5.0) for t in at]
    assert [more.outage[more.step(t)] for t in at] == [once.outage[once.step(t % 5.0)] for t in at]
    assert more.in_service() == pytest.approx(once.in_service())
    assert more.mean_gain_db() == pytest.approx(once.mean_gain_db())
    whole = once.sent_at(0.0, 1e5, 1e6, 1e9, 0.0)
    assert more.sent_at(5.0, 1e5, 1e6, 1e9, 0.0) == pytest.approx(5.0 + whole)
    for name in ("time_s", "gain", "outage", "handover"):
        np.testing.assert_array_equal(getattr(once.repeated(5.0), name), getattr(once, name))
    with pytest.raises(ValueError, match=r"drive t lasts 5 s, .* at 5\.1 s; Trace\.repeated drives it again"):
        once.gain_at(5.1)
    with pytest.raises(ValueError, match=r"until_s = inf: must be finite"):
        once.repeated(np.inf)


def test_plain_tables(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", ["when,loss,pci", "5,-90,a", "6,,a", "7,-80,b", "9.5,-70,c", "10,-70,d"])
    found = read_csv(path, time="when", gain_db="loss", cell="pci", hold_s=2.0)
    assert found.time_s.tolist() == [0, 1, 2, 4, 4.5, 5]
    assert found.gain == pytest.approx([1e-9, 0, 1e-8, 0, 1e-7, 1e-7])
    assert found.outage.tolist() == ["", NO_GAIN, "", NO_SAMPLE, "", ""]
    assert found.handover.tolist() == [False, False, False, False, False, True]
    stamped = ["when,loss", "2021-03-04T10:00:00+00:00,-90", "2021-03-04T10:00:01.5+00:00,-80"]
    assert read_csv(write(path, stamped), time="when", gain_db="loss").time_s.tolist() == [0, 1.5]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(0, 5), st.floats(0, 1), st.integers(0, 2)), min_size=2, max_size=12),
    st.floats(0.5, 10),
)
def test_a_sample_holds_until_the_next_but_not_for_ever(samples: list[tuple[float, float, int]], hold_s: float) -> None:
    waits, gains, cells = zip(*samples, strict=True)
    times = np.cumsum((0.0, *(w + 0.01 for w in waits[1:])))
    trace = steps("x", times, gains, cell=cells, hold_s=hold_s)
    assert (np.diff(trace.time_s) > 0).all()
    for at in np.linspace(0, times[-1], 40):
        last = np.flatnonzero(times <= at)[-1]
        old = at - times[last]
        if abs(old - hold_s) > 1e-9:
            held = old < hold_s or last == len(times) - 1
            assert trace.gain_at(float(at)) == (gains[last] if held else 0.0)
    served = [g > 0 for g in gains]
    gaps = np.diff(times) > hold_s
    moved = [served[i] and served[i - 1] and not gaps[i - 1] and cells[i] != cells[i - 1] for i in range(1, len(times))]
    assert trace.handover.sum() == sum(moved)


def test_a_ray_tracers_paths() -> None:
    """Against the sum written out: receivers, receiving antennas, transmitters, transmitting antennas, paths, times."""
    rng = np.random.default_rng(5)
    a = rng.normal(size=(2, 3, 4, 2, 5, 6)) + 1j * rng.normal(size=(2, 3, 4, 2, 5, 6))
    found = path_gain(a)
    assert found.shape == (2, 4, 6)
    want = sum(abs(a[1, i, 2, j, p, 3]) ** 2 for i in range(3) for j in range(2) for p in range(5)) / 6
    assert found[1, 2, 3] == pytest.approx(want)
    alone = path_gain(a[0, 0, 0, 0], antenna_axes=())
    assert alone == pytest.approx((abs(a[0, 0, 0, 0]) ** 2).sum(0))
    gain, cell = strongest_cell(found[0] * 1e-12)
    assert steps("walk", np.arange(6.0), gain, cell=cell).duration_s == 5


def test_a_phone_leaves_its_cell_for_one_that_is_better_by_the_hysteresis() -> None:
    gain = db_to_linear([[-90, -92, -92, -92, -90], [-95, -90, -88, -92, -92]])
    assert strongest_cell(gain, 3.0)[1].tolist() == [0, 0, 1, 1, 1]
    assert strongest_cell(gain, 0.0)[1].tolist() == [0, 1, 1, 1, 0]
    found, cell = strongest_cell(gain, 3.0)
    assert steps("x", np.arange(5.0), found, cell=cell).handover.tolist() == [False, False, True, False, False]


@pytest.mark.skipif(not SHARED.is_dir() and os.environ.get("CI") != "true", reason="no ../shared/data")
def test_real_drives() -> None:
    """All of them, also the static ones: read, or named."""
    paths = sorted(SHARED.rglob("*.csv"))
    assert paths
    traces = [read_trace(path, 15.2) for path in paths if not path.name.startswith(".")]
    assert all((np.diff(trace.time_s) > 0).all() for trace in traces)
    assert max(trace.duration_s for trace in traces) > 1000
