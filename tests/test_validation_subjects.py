"""The natural clients of `adaptive --dataset subjects`: what is cut, who holds it, and what is held out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from validation.__main__ import main
from validation.adaptive import page, study, subjects, tuned
from validation.cases import run_cases
from validation.config import Training

FRACTION = Training().test_fraction


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Nothing of the package is in memory."""
    monkeypatch.setattr(subjects, "windows", subjects.windows.__wrapped__)
    study.samples.cache_clear()
    return monkeypatch


def test_windows_are_two_seconds_of_ten_subjects_and_seven_exercises() -> None:
    cut, held = subjects.windows(), subjects.read()
    assert cut.data.x.shape == (4_677, 6, 1, 100)
    assert (cut.data.classes, cut.recording[-1] + 1) == (7, 140)
    # With either arm every subject did every exercise once.
    done = set(zip(held["subject"].tolist(), held["side"].tolist(), held["y"].tolist(), strict=True))
    assert len(done) == 10 * 2 * 7
    assert [int((cut.recording == r).sum()) for r in range(140)] == [(len(x) - 100) // 50 + 1 for x in held["X"]]
    for i in (0, 1, 2_000, 4_676):
        r, first = cut.recording[i], cut.start[i]
        np.testing.assert_array_equal(cut.data.x[i, :, 0], held["X"][r][first : first + 100].T.astype(np.float32))
        assert (cut.data.y[i], cut.data.users[i]) == (held["y"][r], held["subject"][r])


@pytest.mark.parametrize("seed", range(5))
def test_no_sample_of_a_held_out_window_or_within_two_seconds_is_trained_on(seed: int) -> None:
    cut = subjects.windows()
    trained, held_out = subjects.split(cut, FRACTION, seed)
    for r in range(140):
        begins, tests = (cut.start[mask & (cut.recording == r)] for mask in (trained, held_out))
        between = np.abs(begins[:, None] - tests[None, :]) - 100
        assert between.min() >= 200 - 100
        assert len(tests) == round(FRACTION * (cut.recording == r).sum())
        assert np.ptp(tests) == 50 * (len(tests) - 1)  # one stretch
        # No more is left out than has to be: on either side of the stretch what overlaps it or the gap.
        assert (cut.recording == r).sum() - len(begins) - len(tests) <= 6


def test_the_seed_says_what_is_held_out() -> None:
    cut = subjects.windows()
    of_seeds = [subjects.split(cut, FRACTION, seed)[1] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(of_seeds[0], of_seeds[1])
    assert 0.4 < (of_seeds[0] & ~of_seeds[2]).sum() / of_seeds[0].sum() < 0.9


def test_every_device_is_one_subject_with_all_its_windows_and_no_others() -> None:
    cut, shares = subjects.windows(), subjects.shares(FRACTION, 3)
    trained, held_out = subjects.split(cut, FRACTION, 3)
    scale = cut.data.x[trained].astype(np.float64)
    mean, deviation = scale.mean((0, 2, 3))[:, None, None], scale.std((0, 2, 3))[:, None, None]
    assert [share.name for share in shares] == [str(k) for k in range(1, 11)]
    for k, share in enumerate(shares, 1):
        for mask, x, y in ((trained, share.train_x, share.train_y), (held_out, share.test_x, share.test_y)):
            own = np.flatnonzero(mask & (cut.data.users == k))
            np.testing.assert_array_equal(y, cut.data.y[own])
            np.testing.assert_allclose(x, (cut.data.x[own] - mean) / deviation, rtol=1e-5, atol=1e-5)
            assert set(y.tolist()) == set(range(7))
        assert len(share.train_y) >= 100
        assert len(share.test_y) >= 70


def test_axes_are_scaled_by_what_is_trained_on_alone(unread: pytest.MonkeyPatch) -> None:
    cut, shares = subjects.windows(), subjects.shares(FRACTION, 4)
    together = np.concatenate([share.train_x for share in shares]).astype(np.float64)
    np.testing.assert_allclose(together.mean((0, 2, 3)), 0.0, atol=1e-6)
    np.testing.assert_allclose(together.std((0, 2, 3)), 1.0, atol=1e-6)
    # Held-out windows and those between may be anything.
    trained, _ = subjects.split(cut, FRACTION, 4)
    x = np.where(trained[:, None, None, None], cut.data.x, 1e4 + cut.data.x)
    unread.setattr(subjects, "windows", lambda: replace(cut, data=replace(cut.data, x=x)))
    for before, after in zip(shares, subjects.shares(FRACTION, 4), strict=True):
        np.testing.assert_array_equal(before.train_x, after.train_x)
        assert float(after.test_x.min()) > 1e3 > float(before.test_x.max())


def test_without_the_package_one_line_says_what_to_install(
    unread: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unread.setattr(subjects, "find_spec", lambda name: None)
    assert main(["adaptive", "--dataset", "subjects", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said == (
        "validation: error: seglearn is not installed, which carries the subjects' recordings; "
        "pip install -r requirements/report.txt brings what is needed"
    )
    assert not (tmp_path / "out").exists()


def test_another_file_is_refused_before_it_is_unpickled(unread: pytest.MonkeyPatch) -> None:
    unread.setattr(subjects, "SHA256", "0" * 64)
    unread.setattr(np, "load", lambda *args, **options: pytest.fail("unpickled"))
    with pytest.raises(ValueError, match=r"watch_dataset\.npy is not the file of seglearn 1\.2\.5"):
        subjects.windows()


def test_a_small_study_from_cases_to_page(tmp_path: Path) -> None:
    reported = tuned.reported("subjects")
    tiny = replace(reported, seeds=(1,), rounds=2, pruned_rounds=2, entries=reported.entries[1:3])
    run_cases(tmp_path, study.run_config(tiny), study.cases(tiny), study.MODULES)
    shown = page.write(tmp_path).read_text(encoding="utf-8")
    assert "Exercises of ten subjects with a smartwatch" in shown
    held = sum(len(share.test_y) for share in subjects.shares(FRACTION, 1))
    assert f"of {held} held-out samples" in shown


@pytest.mark.parametrize(
    ("dataset", "folder"),
    [
        ("digits", ""),
        ("writers", ""),
        ("subjects", ""),
        *((name, " --data-dir DIR") for name in ("mnist", "fashion_mnist")),
    ],
)
def test_the_page_names_a_command_that_is_taken(dataset: str, folder: str) -> None:
    command = page._command({"name": "tuning", "dataset": dataset, "model": "mlp"})
    assert command == f"python -m validation tuning --dataset {dataset}{folder}"
