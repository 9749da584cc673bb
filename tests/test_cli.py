"""The command line from outside: exit codes, JSON that any parser takes, one line for bad input."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import types
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from problems import infeasible_problem

import kktalloc as ka
from kktalloc.__main__ import main
from kktalloc._cli.table import LIMITS
from kktalloc._problem import kernel
from kktalloc._problem.scenario import load_scenario

EXAMPLE = Path(__file__).parents[1] / "examples" / "ten_devices.toml"


def strict(text: str) -> Any:
    """JSON as the standard has it: Python's NaN and Infinity literals are errors."""

    def refuse(literal: str) -> None:
        raise AssertionError(f"{literal} is not JSON")

    return json.loads(text, parse_constant=refuse)


def scenario(tmp_path: Path, problem: ka.Problem) -> Path:
    """A problem as a JSON scenario file."""

    def plain(value: Any) -> Any:
        return [plain(v) for v in value] if isinstance(value, list) else "inf" if value == np.inf else value

    cell = {k: np.asarray(v)[..., 0].tolist() for k, v in vars(problem.cell).items() if v is not None}
    devices = {k: plain(np.asarray(v).tolist()) for k, v in vars(problem.devices).items()}
    path = tmp_path / "scenario.json"
    path.write_text(json.dumps({"cell": cell, "devices": devices}))
    return path


def test_json_holds_the_solution_to_the_last_digit(capsys: pytest.CaptureFixture[str]):
    assert main(["solve", str(EXAMPLE), "--json"]) == 0
    found = strict(capsys.readouterr().out)
    solution = ka.solve(load_scenario(EXAMPLE))
    assert found["status"] == "optimal"
    for name in ("pruning_ratio", "bandwidth_hz", "tx_power_w", "upload_s", "latency_s", "energy_j", "objective"):
        np.testing.assert_array_equal(found[name], getattr(solution, name), err_msg=name)
    for name in ("bandwidth_per_hz", "deadline_per_s", "energy_per_j", "peak_power_per_w"):
        np.testing.assert_array_equal(found["prices"][name], getattr(solution.prices, name), err_msg=name)
    assert found["certificate"]["ok"] is True
    assert found["certificate"]["residuals"].keys() == solution.certificate.residuals.keys()
    assert abs(found["certificate"]["duality_gap"]) <= 1e-9
    # What was printed passes the certificate by itself.
    arrays = (found[n] for n in ("pruning_ratio", "bandwidth_hz", "tx_power_w"))
    assert ka.certify(load_scenario(EXAMPLE), *arrays).ok


def test_table_for_a_human(capsys: pytest.CaptureFixture[str]):
    assert main(["solve", str(EXAMPLE)]) == 0
    lines = capsys.readouterr().out.splitlines()
    solution = ka.solve(load_scenario(EXAMPLE))
    assert " ".join(lines[0].split()) == "device pruned bandwidth power upload latency energy limited by"
    assert lines[1].split() == ["%", "MHz", "mW", "ms", "ms", "mJ"]
    for k, line in enumerate(lines[2:12]):
        shown = [float(word) for word in line.split()[:7]]
        row = [k, 100 * solution.pruning_ratio[k], solution.bandwidth_hz[k] / 1e6, 1e3 * solution.tx_power_w[k]]
        row += [1e3 * solution.upload_s[k], 1e3 * solution.latency_s[k], 1e3 * solution.energy_j[k]]
        np.testing.assert_allclose(shown, row, atol=5.1e-4)
    assert max(map(len, lines)) <= 80  # a terminal
    assert any("certificate: holds" in line for line in lines)


def test_the_table_calls_devices_by_name_and_shows_clocks(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    problem = load_scenario(EXAMPLE)
    devices = replace(problem.devices, name=[f"phone {k}" for k in range(10)], clock_min=0.5, clock_max=1.5)
    path = scenario(tmp_path, ka.Problem(problem.cell, devices))
    assert main(["solve", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "clock" in lines[1]
    assert [line.split("  ")[0].strip()[:7] for line in lines[3:13]] == [f"phone {k}" for k in range(10)]
    assert max(map(len, lines)) <= 88


@pytest.mark.parametrize("command", [[], ["solve"], ["certify"], ["plan"], ["verify"], ["schema"], ["bench"]])
def test_help_fits_a_terminal(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


@pytest.mark.parametrize("resource", ["bandwidth", "peak_power", "energy", "deadline"])
def test_infeasible_is_exit_code_3_with_a_diagnosis(tmp_path: Path, capsys: pytest.CaptureFixture[str], resource: str):
    problem, device = infeasible_problem(np.random.default_rng(5), resource, devices=4)
    path = scenario(tmp_path, problem)
    assert main(["solve", str(path), "--json"]) == 3
    captured = capsys.readouterr()
    found = strict(captured.out)
    assert found.keys() == {"status", "diagnosis"}
    assert found["status"] == "infeasible"
    assert resource in found["diagnosis"]["message"]
    assert found["diagnosis"]["devices"] == ([device] if device >= 0 else [0, 1, 2, 3])
    assert found["diagnosis"]["resource"][max(device, 0)] == resource
    assert captured.err == ""
    assert main(["solve", str(path)]) == 3
    assert "infeasible" in capsys.readouterr().out


def test_a_batch_reports_each_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    cell = ka.Cell([1e6, 1e3], 4e-21, 1.0)
    devices = ka.Devices([[1e-11, 2e-11]] * 2, 0.1, 5e5, 0.2, pruning_ratio_max=0.5)
    path = scenario(tmp_path, ka.Problem(cell, devices))
    assert main(["solve", str(path), "--json"]) == 3
    found = strict(capsys.readouterr().out)
    assert found["status"] == ["optimal", "infeasible"]
    assert found["diagnosis"]["devices"] == [[], [0, 1]]
    assert found["pruning_ratio"][1] == [None, None]
    alone = ka.Problem(ka.Cell(1e6, 4e-21, 1.0), ka.Devices([1e-11, 2e-11], 0.1, 5e5, 0.2, pruning_ratio_max=0.5))
    np.testing.assert_allclose(found["pruning_ratio"][0], ka.solve(alone).pruning_ratio, rtol=1e-12)
    assert main(["solve", str(path)]) == 3
    out = capsys.readouterr().out
    assert "problem [0]: optimal" in out
    assert "problem [1]: infeasible" in out


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("[cell]\nbandwith_hz = 1\n[devices]\n", "unknown field cell.bandwith_hz (did you mean bandwidth_hz?)"),
        ("[cell\n", "not valid TOML"),
        (EXAMPLE.read_text().replace("= 0.4", "= 1.4"), "devices.pa_efficiency = 1.4: must be > 0 and <= 1"),
    ],
)
def test_bad_input_is_exit_code_2_and_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, line: str
):
    path = tmp_path / "bad.toml"
    path.write_text(content)
    assert main(["solve", str(path), "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"kktalloc: error: {path}: ")
    assert line in captured.err
    assert captured.err.count("\n") == 1


def test_a_warning_is_one_line(tmp_path: Path):
    path = tmp_path / "loss.toml"
    path.write_text(re.sub(r"channel_gain = \[[^,]*", "channel_gain = [105.0", EXAMPLE.read_text()))
    command = [sys.executable, "-m", "kktalloc", "solve", str(path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr.startswith("kktalloc: warning: devices.channel_gain[0] = 105.0: more than 1, ")
    assert done.stderr.count("\n") == 1


def test_an_unknown_engine_is_no_fault_of_the_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("KKTALLOC_ENGINE", "foo")
    assert main(["solve", str(EXAMPLE)]) == 2
    assert capsys.readouterr().err == "kktalloc: error: KKTALLOC_ENGINE = foo: numpy or compiled\n"


def test_a_kernel_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(kernel, "_KERNEL", None)
    monkeypatch.setattr(kernel, "_MISSING", "No module named 'kktalloc._kernel'; pip install -v shows why")
    monkeypatch.setenv("KKTALLOC_ENGINE", "compiled")
    assert main(["solve", str(EXAMPLE)]) == 2
    folder = Path(kernel.__file__).parents[1]
    assert capsys.readouterr().err.splitlines() == [
        f"kktalloc: error: KKTALLOC_ENGINE=compiled, but the kktalloc in {folder} has no compiled kernel:"
        " No module named 'kktalloc._kernel'; pip install -v shows why"
    ]


def test_help_tells_every_exit_code(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["solve", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "0: solved; 1: the certificate refused the answer; 2: bad input; 3: infeasible." in told


@pytest.mark.parametrize("argv", [[], ["solve"], ["solve", "a.toml", "--jsn"], ["slove", "a.toml"]])
def test_bad_arguments_are_exit_code_2_and_one_line(capsys: pytest.CaptureFixture[str], argv: list[str]):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("kktalloc: error: ")
    assert captured.err.count("\n") == 1


def test_out_is_written_whole_or_not_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "solution.json"
    out.write_text("old")
    assert main(["solve", str(EXAMPLE), "--json", "--out", str(out)]) == 0
    assert capsys.readouterr().out == ""
    assert strict(out.read_text())["status"] == "optimal"
    plain = tmp_path / "plain"
    plain.touch()
    assert out.stat().st_mode == plain.stat().st_mode
    bad = tmp_path / "bad.toml"
    bad.write_text("[cell]")
    assert main(["solve", str(bad), "--json", "--out", str(out)]) == 2
    assert strict(out.read_text())["status"] == "optimal"
    assert main(["solve", str(EXAMPLE), "--out", str(tmp_path / "no" / "such" / "file")]) == 2
    assert "file: No such file or directory" in capsys.readouterr().err
    (tmp_path / "folder").mkdir()
    assert main(["solve", str(EXAMPLE), "--out", str(tmp_path / "folder")]) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.toml", "folder", "plain", "solution.json"]


def test_verify_hands_over_to_the_proof(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    calls: list[tuple[object, ...]] = []
    proof = types.ModuleType("kktalloc.proof")

    def record(*args: object) -> int:
        calls.append(args)
        return len(calls) - 1

    proof.run = record  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kktalloc.proof", proof)
    monkeypatch.setattr(ka, "proof", proof, raising=False)
    assert main(["verify"]) == 0
    assert main(["verify", "--json", "--latex", str(tmp_path)]) == 1
    assert main(["verify", "mine.py", "its.py", "--html", "page.html"]) == 2
    mine = [Path("mine.py"), Path("its.py")]
    assert calls == [(False, None, [], None), (True, tmp_path, [], None), (False, None, mine, Path("page.html"))]


def test_version(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"kktalloc {version('kktalloc')}\n"


def run(*argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kktalloc", *argv]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_module_runs_on_standard_input(tmp_path: Path):
    text = scenario(tmp_path, load_scenario(EXAMPLE)).read_text()
    done = run("solve", "-", "--json", input=text)
    assert (done.returncode, done.stderr) == (0, "")
    want = ka.solve(load_scenario(EXAMPLE)).pruning_ratio
    np.testing.assert_array_equal(strict(done.stdout)["pruning_ratio"], want)
    broken = run("solve", "-", input="{")
    assert broken.returncode == 2
    assert broken.stderr.startswith("kktalloc: error: <stdin>: not valid JSON")
    assert broken.stderr.count("\n") == 1


def test_a_reader_that_leaves_is_no_error():
    command = [sys.executable, "-m", "kktalloc", "solve", str(EXAMPLE)]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert done.stderr == b""
    assert done.returncode == 141


def test_total_power_scenario_as_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario = tmp_path / "s.toml"
    scenario.write_text(
        "[cell]\nbandwidth_hz = 1.5e6\nnoise_psd_w_per_hz = 4e-21\ndeadline_s = 0.5\ntotal_power_w = 0.1\n"
        "[devices]\nchannel_gain = [3e-11, 1e-11, 4e-12]\ntx_power_max_w = 0.2\npayload_bits = 2e6\n"
        "pruned_compute_s = [0.1, 0.2, 0.1]\n"
    )
    assert main(["solve", str(scenario)]) == 0
    assert "total power" in capsys.readouterr().out
    assert set(LIMITS) == {r.name for r in ka.Regime}


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_is_that_of_these_commands(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The shipped scripts are what shtab makes of the parser: ``python tests/test_cli.py`` writes them anew."""
    import shtab

    from kktalloc.__main__ import _parser

    assert main(["completion", shell]) == 0
    assert capsys.readouterr().out == shtab.complete(_parser(), shell) + "\n"


def test_bash_completes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["completion", "bash"])
    (tmp_path / "completion.bash").write_text(capsys.readouterr().out)
    typed = "source completion.bash; COMP_WORDS=(kktalloc {0}); COMP_CWORD={1}; _shtab_kktalloc; echo ${{COMPREPLY[@]}}"
    for words, count, wanted in (("s", 1, ["solve", "schema"]), ("bench --r", 2, ["--repeats"])):
        command = ["bash", "-c", typed.format(words, count)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert sorted(done.stdout.split()) == sorted(wanted)


if __name__ == "__main__":
    import shtab

    from kktalloc.__main__ import _parser

    for name in ("bash", "zsh"):
        script = Path(ka.__file__).parent / "_cli" / f"completion.{name}"
        script.write_text(shtab.complete(_parser(), name) + "\n")


def test_out_never_goes_over_the_scenario(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    scenario, link = tmp_path / "cell.toml", tmp_path / "link.toml"
    scenario.write_text(EXAMPLE.read_text())
    link.symlink_to(scenario)
    for out in (scenario, link, tmp_path / "." / "cell.toml"):
        assert main(["solve", str(scenario), "--out", str(out)]) == 2
        assert capsys.readouterr().err == f"kktalloc: error: --out {out}: is the scenario itself\n"
    assert scenario.read_text() == EXAMPLE.read_text()


def test_a_dash_is_standard_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    assert main(["solve", str(EXAMPLE), "--out", "-"]) == 0
    assert "bandwidth" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_names_do_not_drive_the_terminal_wherever_a_message_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    devices = ka.Devices([0.0, 5e-12], 0.1, 4e6, 0.2, pruning_ratio_max=0.5, name=["a\nb\x1b[2J", "c"])
    problem = ka.Problem(ka.Cell(1e6, 4e-21, 1.0), devices)
    with pytest.raises(ka.InfeasibleError, match=r"a\\nb\\x1b\[2J") as told:
        ka.solve(problem)
    assert str(told.value).isprintable()
    scenario = tmp_path / "cell.json"
    ka.save_scenario(problem, scenario)
    assert main(["solve", str(scenario)]) == 3
    assert "a\\nb" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["toml", "json"])
def test_a_number_of_too_many_digits_is_one_line(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / f"cell.{suffix}"
    digits = "9" * 5000
    path.write_text(
        f"[cell]\nbandwidth_hz = {digits}\n" if suffix == "toml" else f'{{"cell": {{"bandwidth_hz": {digits}}}}}'
    )
    assert main(["solve", str(path)]) == 2
    assert capsys.readouterr().err == f"kktalloc: error: {path}: a whole number has more digits than Python reads\n"
