"""Scenario files: what is read is what was written, and every way to be wrong is one clear line."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kktalloc._problem.scenario import load_scenario

EXAMPLES = Path(__file__).parents[1] / "examples"

GOOD: dict[str, Any] = {
    "cell": {"bandwidth_hz": 1e6, "noise_psd_w_per_hz": 4e-21, "deadline_s": 1},
    "devices": {
        "channel_gain": [1e-11, 2e-11],
        "tx_power_max_w": 0.1,
        "payload_bits": 500_000,
        "pruned_compute_s": [0.2, 0.3],
    },
}


def changed(table: str, **fields: Any) -> dict[str, Any]:
    return GOOD | {table: GOOD[table] | fields}


def written(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "scenario.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_json_is_read_as_written(tmp_path: Path):
    problem = load_scenario(written(tmp_path, changed("devices", energy_budget_j=["inf", 2], weight=None)))
    assert problem.shape == (2,)
    np.testing.assert_array_equal(problem.devices.channel_gain, [1e-11, 2e-11])
    np.testing.assert_array_equal(problem.devices.tx_power_max_w, [0.1, 0.1])
    np.testing.assert_array_equal(problem.devices.energy_budget_j, [np.inf, 2.0])
    np.testing.assert_array_equal(problem.devices.weight, [0.5, 0.5])
    np.testing.assert_array_equal(problem.cell.deadline_s, [1.0])


def test_toml_and_json_agree(tmp_path: Path):
    toml = tmp_path / "scenario.toml"
    toml.write_text(
        "[cell]\nbandwidth_hz = 1e6\nnoise_psd_w_per_hz = 4e-21\ndeadline_s = 1\n"
        "[devices]\nchannel_gain = [1e-11, 2e-11]\ntx_power_max_w = 0.1\npayload_bits = 500_000\n"
        "pruned_compute_s = [0.2, 0.3]\nenergy_budget_j = [inf, 0.5]\n"
    )
    one, other = load_scenario(toml), load_scenario(written(tmp_path, changed("devices", energy_budget_j=["inf", 0.5])))
    for table in ("cell", "devices"):
        for name, value in vars(getattr(one, table)).items():
            np.testing.assert_array_equal(value, vars(getattr(other, table))[name], err_msg=name)


def test_nested_arrays_are_a_batch(tmp_path: Path):
    problem = load_scenario(written(tmp_path, changed("devices", channel_gain=[[1e-11, 2e-11], [3e-11, 4e-11]])))
    assert problem.shape == (2, 2)


def test_standard_input_and_byte_order_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(GOOD)))
    assert load_scenario("-").shape == (2,)
    marked = tmp_path / "marked.json"
    marked.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode())
    assert load_scenario(marked).shape == (2,)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda p: p.name)
def test_examples_load(path: Path):
    assert load_scenario(path).shape[-1] >= 1


def test_there_are_examples():
    assert list(EXAMPLES.glob("*.toml"))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (changed("devices", chanel_gain=1e-11), r"unknown field devices.chanel_gain \(did you mean channel_gain\?\)"),
        (changed("cell", zzz=1), r"unknown field cell.zzz \(known: bandwidth_hz, noise_psd_w_per_hz, .*\)"),
        (GOOD | {"device": {}}, r"unknown table device \(did you mean devices\?\)"),
        ({"cell": GOOD["cell"]}, r"missing table devices"),
        (changed("devices", payload_bits=None), r"missing field devices.payload_bits"),
        (GOOD | {"cell": [1]}, r"cell: expected a table of fields, got \[1\]"),
        ([1, 2], r"expected the tables cell and devices, got \[1, 2\]"),
        (changed("cell", deadline_s="1"), r"cell.deadline_s: expected a number or an array of numbers, got '1'"),
        (changed("cell", deadline_s="inf"), r"cell.deadline_s: expected a number"),
        (changed("devices", tx_power_max_w=[0.1, True]), r"devices.tx_power_max_w\[1\]: expected a number .* got True"),
        (changed("devices", tx_power_max_w={"a": 1}), r"devices.tx_power_max_w: expected a number .* got \{'a': 1\}"),
        (changed("devices", tx_power_max_w=[]), r"devices.tx_power_max_w: an empty array"),
        (changed("devices", tx_power_max_w=[[1], [1, 2]]), r"devices.tx_power_max_w: rows of unequal length"),
        (changed("devices", tx_power_max_w=[0.1, -0.1]), r"devices.tx_power_max_w\[1\] = -0.1: must be >= 0"),
        (
            changed("devices", tx_power_max_w=[0.1] * 3),
            r"devices.tx_power_max_w: shape \(3,\) does not broadcast with \(2,\) of devices.channel_gain",
        ),
        (changed("devices", payload_bits=10**400), r"devices.payload_bits: a number beyond the range"),
        ("[cell", r"not valid JSON: "),
        ('{"cell": NaN}', r"not valid JSON: NaN"),
        ('{"cell": {"deadline_s": Infinity}}', r"not valid JSON: Infinity"),
        ('{"cell": {}, "cell": {}}', r": cell is given twice"),
        ('{"cell": {"deadline_s": 1, "deadline_s": 2}}', r": cell.deadline_s is given twice"),
        ("[" * 100_000, r"nested too deeply"),
        ("1" * 5000, r"a whole number has more digits than Python reads"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path: Path, content: Any, line: str):
    path = written(tmp_path, content)
    with pytest.raises(ValueError, match=line) as caught:
        load_scenario(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("s.toml", b"[cell\n", r"not valid TOML: "),
        ("s.toml", b"[cell]\ndeadline_s = nan\n[devices]\n", r"missing field cell.bandwidth_hz"),
        ("s.toml", b"\xff\xfe", r"not UTF-8 text"),
        ("s.toml", b"x = 1\n[" + b"a." * 50_000 + b"a]\n", r"not valid TOML: line 2: a key of more than 64 parts"),
        ("s.toml", b"'a' . \"b\"." * 50_000 + b"a = 1\n", r"not valid TOML: line 1: a key of more than 64 parts"),
        ("s.toml", b"x = " + b"[" * 100_000, r"nested too deeply"),
        ("s.yaml", b"", r"a scenario file ends in .toml or .json"),
        ("s.toml", None, r"cannot read: No such file"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, content: bytes | None, line: str):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=line):
        load_scenario(path)


def test_nan_in_toml_names_the_field(tmp_path: Path):
    text = (EXAMPLES / "ten_devices.toml").read_text().replace("deadline_s = 0.5", "deadline_s = nan")
    path = tmp_path / "nan.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"cell.deadline_s = nan: must be > 0"):
        load_scenario(path)


def test_a_directory_is_unreadable(tmp_path: Path):
    (tmp_path / "d.toml").mkdir()
    with pytest.raises(ValueError, match="cannot read: Is a directory"):
        load_scenario(tmp_path / "d.toml")
