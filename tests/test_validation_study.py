"""The study from the command line: end to end, interrupted, resumed, and refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest

import fltrain as ft
from validation import results, study
from validation.__main__ import main
from validation.config import Study, Training, digest

TINY = ["--rounds", "2", "--seeds", "1"]
SHARED_DATA = Path(__file__).parent.parent.parent / "shared" / "data"


def _numbers(out: Path) -> dict[str, Any]:
    """Results of every run without what may differ between two runs of the same study."""
    runs = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted((out / "runs").iterdir())}
    for run in runs.values():
        del run["wall_s"], run["provenance"]
    return runs


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "out"
    assert main([*TINY, "--out", str(out)]) == 0
    return out


def _uploads_fit_what_was_allocated(run: dict[str, Any]) -> None:
    """The bits that training really sent are no more than the radio was charged for (but for rounding)."""
    payload, overhead = (np.array(run["workload"][name]) for name in ("payload_bits", "overhead_bits"))
    charged = (payload * (1 - np.array(run["allocation"]["pruning_ratio"])) + overhead).sum(axis=1)
    sent = np.array([record["uploaded_bits"] for record in run["history"]])
    assert (sent <= charged + 32 * len(payload)).all()
    assert (sent >= 0.8 * charged).all()


def test_end_to_end(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--report-only", "--out", str(finished)]) == 0
    printed = capsys.readouterr().out
    assert str(finished / "report.html") in printed
    runs = _numbers(finished)
    schemes = ("equal", "fedavg", "fixed_equal", "joint", "partial")
    assert sorted(runs) == [f"{scheme}-seed100.json" for scheme in schemes]
    for run in runs.values():
        assert len(run["history"]) == len(run["allocation"]["pruning_ratio"]) == run["train_config"]["rounds"]
        assert run["history"][-1]["wall_clock_s"] <= run["budget_s"] * (1 + 1e-5)
        # What training was told is what the allocation says.
        assert [r["pruning_ratio_per_device"] for r in run["history"]] == run["allocation"]["pruning_ratio"]
        _uploads_fit_what_was_allocated(run)
    assert len(runs["partial-seed100.json"]["history"]) == 2
    assert runs["partial-seed100.json"]["budget_s"] == pytest.approx(2 * runs["joint-seed100.json"]["budget_s"])
    assert runs["fedavg-seed100.json"]["personal_parameters"] == 0
    assert runs["joint-seed100.json"]["personal_parameters"] > 0
    steps = [run["train_config"]["personal_steps"] + run["train_config"]["pruned_steps"] for run in runs.values()]
    assert len(set(steps)) == 1
    origin = results.read_run(results.run_path(finished, "joint", 100))["provenance"]
    assert origin["source"] == results.source_digest()
    assert origin["versions"]["torch"].startswith("2.")
    assert origin["git_commit"] is None or len(origin["git_commit"]) == 40


def test_an_interrupted_study_continues_and_gives_the_same_numbers(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, calls, train = tmp_path / "out", [], ft.train

    def stopped(*args: Any, **kwargs: Any) -> ft.History:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train(*args, **kwargs)

    monkeypatch.setattr(ft, "train", stopped)
    assert main([*TINY, "--out", str(out)]) == 130
    assert "the same command continues" in capsys.readouterr().err
    assert sorted(p.name for p in (out / "runs").iterdir()) == ["fedavg-seed100.json", "partial-seed100.json"]
    assert not (out / "report.html").exists()
    assert main([*TINY, "--out", str(out)]) == 0
    assert len(calls) == 6, "finished runs must not be trained again"
    assert _numbers(out) == _numbers(finished)
    assert main([*TINY, "--out", str(out)]) == 0
    assert len(calls) == 6


def test_results_of_other_code_are_made_again(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Study()
    assert results.read_run(results.run_path(finished, "joint", 100))["config"] != study.run_config(config)
    same = _tiny_study()
    assert study.pending(same, finished) == []
    monkeypatch.setattr(results, "source_digest", lambda: "of other code")
    assert len(study.pending(same, finished)) == 5


@pytest.mark.parametrize(
    "path",
    ["kktalloc/kernel/solve.c", "kktalloc/_device/reduced.py", "fltrain/kernel/tile.h", "setup.py", "fltrain/sgd.py"],
)
def test_a_change_of_any_source_of_numbers_changes_the_fingerprint(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(results.__file__).parents[1]
    for name in ("kktalloc", "fltrain", "validation"):
        shutil.copytree(root / name, tmp_path / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copy(root / "setup.py", tmp_path)
    monkeypatch.setattr(results, "_ROOT", tmp_path)
    before = results.source_digest()
    assert results.source_digest() == before
    with (tmp_path / path).open("a") as source:
        source.write("\n")
    assert results.source_digest() != before


@pytest.mark.parametrize("package", ["kktalloc", "fltrain"])
def test_engines_are_recorded_and_another_one_is_other_code(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = tmp_path / "module.so"
    build.write_bytes(b"one")
    served: dict[str, Any] = {"kktalloc": None, "fltrain": None}

    def serve(module: object) -> str:
        served[package] = module
        monkeypatch.setattr("kktalloc._problem.kernel.kernel", lambda: served["kktalloc"])
        monkeypatch.setattr("fltrain.chain._chain", served["fltrain"])
        assert results.provenance()["engines"][package] == ("compiled" if module else "python")
        return results.source_digest()

    seen = [serve(None), serve(SimpleNamespace(__file__=str(build)))]
    build.write_bytes(b"two")
    assert len({*seen, results.source_digest()}) == 3


def test_the_fingerprint_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from validation import results\n"
        "print(results.engines()['fltrain'], len(results.source_digest()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "python 16\n"


def _tiny_study() -> Study:
    from validation.command import named_study, parser

    return named_study(parser().parse_args(TINY))


def test_results_of_another_study_are_not_replaced(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = _numbers(finished)
    assert main(["--rounds", "3", "--seeds", "1", "--out", str(finished)]) == 2
    error = capsys.readouterr().err
    assert "training.rounds is 2, not 3" in error
    assert error.count("\n") == 1
    assert _numbers(finished) == before


def test_more_seeds_keep_the_finished_ones() -> None:
    assert digest(_tiny_study()) == digest(Study(seeds=(5, 6, 7), training=_tiny_study().training))


def test_without_files_and_network_one_line_says_what_is_needed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(**arguments: object) -> None:
        raise URLError("no route\nto host")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", unreachable)
    out = tmp_path / "out"
    assert main(["--dataset", "mnist", "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert "--data-dir is needed for mnist, or a network to download it" in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_downloaded_images_are_those_of_the_training_files(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fetch(name: str, **arguments: object) -> SimpleNamespace:
        asked.append(name)
        ramp = np.arange(784, dtype=np.float32) % 256
        return SimpleNamespace(
            data=np.broadcast_to(ramp, (60_010, 784)), target=np.array([str(i % 10) for i in range(60_010)])
        )

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)
    data = study.load_data(Training(dataset="fashion_mnist"), None)
    assert asked == ["Fashion-MNIST"]
    assert data.x.shape == (60_000, 1, 28, 28)
    assert float(data.x.max()) == 1.0
    assert list(data.y[:12]) == [*range(10), 0, 1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--rounds", "0"], "rounds must lie in [1, 100000], got 0"),
        (["--rounds", "100001"], "rounds must lie in [1, 100000], got 100001"),
        (["--rounds", "two"], "argument --rounds: invalid int value: 'two'"),
        (["--seeds", "-1"], "seeds must lie in [1, 1000], got -1"),
        (["--seeds", "1000000000000"], "seeds must lie in [1, 1000], got 1000000000000"),
        (["--deadline-fraction", "nan"], "deadline_fraction must lie in [0.05, 1.0], got nan"),
        (["--deadline-fraction", "1e-9"], "deadline_fraction must lie in [0.05, 1.0], got 1e-09"),
        (["--deadline-fraction", "1.5"], "deadline_fraction must lie in [0.05, 1.0], got 1.5"),
        (["--data-dir", "/nowhere"], "--data-dir /nowhere does not apply to the digits dataset"),
        (["ablation", "--data-dir", "/nowhere"], "--data-dir /nowhere does not apply to the digits dataset"),
        (["latency", "--model", "cnn"], "--model cnn does not apply to latency"),
        (
            ["adaptive", "--dataset", "writers", "--model", "cnn"],
            "--model cnn does not apply to writers: choose from digits",
        ),
        (
            ["tuning", "--dataset", "subjects", "--data-dir", "/nowhere"],
            "--data-dir /nowhere does not apply to the subjects dataset, which comes with seglearn",
        ),
        (["--dataset", "subjects"], "--dataset subjects does not apply to schemes"),
        (["ordering", "--dataset", "subjects"], "--dataset subjects does not apply to ordering"),
        (["overview", "--seeds", "3"], "--seeds 3 does not apply to overview"),
        (["--dataset", "cifar"], "argument --dataset: invalid choice: 'cifar'"),
        *(
            ([*study, "--data-dir", "/nowhere"], "--data-dir /nowhere: there is no such folder")
            for study in (
                ["--dataset", "mnist"],
                ["latency"],
                *(["adaptive", "--dataset", name] for name in ("mnist", "fashion_mnist")),
                ["tuning", "--dataset", "mnist", "--model", "cnn"],
                ["ordering", "--dataset", "fashion_mnist"],
                ["kinds"],
                ["harder"],
                ["drives"],
                ["drives-tuning"],
            )
        ),
        (["baselines-tuning", "--dataset", "mnist"], "--dataset mnist does not apply to baselines-tuning"),
        (["baselines-tuning", "--data-dir", "/nowhere"], "--data-dir /nowhere does not apply to the digits dataset"),
        (["adaptive", "--rounds", "0"], "--rounds must be at least 1, got 0"),
        (["adaptive", "--dataset", "mnist", "--data-dir", "tests"], "idx3-ubyte"),
        (["ordering", "--dataset", "mnist", "--data-dir", "tests"], "idx3-ubyte"),
        (["kinds", "--data-dir", "tests"], "idx3-ubyte"),
        (["--no-such-option"], "unrecognized arguments: --no-such-option"),
        (["no-such-study"], "invalid choice: 'no-such-study'"),
        (["--report-only"], "study.json does not exist"),
        (["bound", "--rounds", "3"], "--rounds 3 does not apply to bound"),
        (["scale", "--seeds", "0"], "seeds must lie in [1, 1000], got 0"),
        (["map", "--seeds", "1001"], "seeds must lie in [1, 1000], got 1001"),
        (["tradeoff", "--report-only"], "study.json does not exist"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    try:
        code: object = main([*arguments, "--out", str(out)])
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2
    assert says in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_seeds_are_those_of_the_study_first() -> None:
    from validation.command import _own_seeds

    scattered = Study(seeds=(60, 61, 68, 69))
    assert [_own_seeds(scattered, count) for count in (1, 3, 4)] == [(60,), (60, 61, 68), (60, 61, 68, 69)]
    assert _own_seeds(scattered, 6) == (60, 61, 68, 69, 70, 71)
    with pytest.raises(ValueError, match=r"seeds must lie in \[1, 1000\], got 0"):
        _own_seeds(scattered, 0)


@pytest.mark.parametrize(
    ("raised", "says"),
    [
        (MemoryError("Unable to allocate 9 TiB"), "out of memory"),
        (ModuleNotFoundError("No module named 'torch'"), "No module named 'torch'; pip install"),
        (OSError("disk full"), "disk full"),
    ],
)
@pytest.mark.parametrize("module", ["study", "cases"])
def test_what_fails_before_its_first_result_is_one_line_and_leaves_nothing(
    module: str,
    raised: Exception,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(f"validation.{module}.{'run_one' if module == 'study' else 'tqdm'}", fail)
    out = tmp_path / "out"
    assert main([*(TINY if module == "study" else ["scale"]), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_real_fashion_mnist(tmp_path: Path) -> None:
    """On the files of ../shared/data, which a checkout under CI=true must have beside it: there it fails without."""
    if not SHARED_DATA.exists() and os.environ.get("CI") != "true":
        pytest.skip("no shared data here")
    out = tmp_path / "out"
    arguments = ["--dataset", "fashion_mnist", "--data-dir", str(SHARED_DATA), *TINY, "--out", str(out)]
    assert main(arguments) == 0
    run = _numbers(out)["joint-seed100.json"]
    assert run["global_parameters"] == 784 * 128 + 128 + 128 * 64 + 64
    assert "Fashion-MNIST" in (out / "report.html").read_text(encoding="utf-8")
