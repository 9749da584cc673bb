"""`validation.kinds.kept`: how much of a round's progress a sparse upload makes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fltrain_cases import Constant, digits, shares

import fltrain as ft
from validation.kinds import kept

SPLIT = ft.Split(ft.build_model("mlp", digits()), ("head",))
CONFIG = ft.TrainConfig(
    personal_steps=2, pruned_steps=1, batch_size=16, update="sparse", averaging="fill", server_rate=2.0
)


def test_whole_changes_make_all_progress() -> None:
    rows = kept.sums(SPLIT, list(shares()), CONFIG, 0.0, 4)
    assert rows.shape == (4, 4)
    assert kept.told(rows) == (1.0, 1.0)
    assert (rows[:, 3] > 0.0).all()


@pytest.mark.parametrize("feedback", [True, False])
def test_what_is_looked_at_is_what_the_run_sends(feedback: bool) -> None:
    config = replace(CONFIG, error_feedback=feedback, rounds=5)
    rows = kept.sums(SPLIT, list(shares()), config, 0.9, 4)
    history = ft.train(SPLIT, shares(), config, Constant(4, 0.9), progress=False)
    dropped = [4 * record["pruning_error_sq"] for record in history.records[1:]]  # four devices of equal weight
    np.testing.assert_allclose(rows[:, 3] - rows[:, 2], dropped, rtol=1e-6)


def test_known_sums() -> None:
    progress, share = kept.told(np.array([[1.0, 4.0, 1.0, 10.0], [1.0, 4.0, 0.6, 6.0]]))
    assert (progress, share) == (0.25, 0.1)
    assert 0.1 ** kept.power(progress, share) == pytest.approx(0.25)
    assert kept.power(1.25, 0.1) < 0.0  # more than whole changes would have made
    for none in ((-0.25, 0.1), (0.0, 0.1), (0.5, 1.0), (0.5, 0.0), (float("nan"), 0.1)):
        assert np.isnan(kept.power(*none))


def test_kept_changes_make_up_for_what_forgotten_ones_lose() -> None:
    made = {
        feedback: kept.told(kept.sums(SPLIT, list(shares()), replace(CONFIG, error_feedback=feedback), 0.98, 40)[20:])[
            0
        ]
        for feedback in (True, False)
    }
    assert made[True] > 0.9 > 0.8 > made[False]


def test_the_command_prints_a_line_for_each_part(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kept, "RATIOS", (0.9,))
    monkeypatch.setattr(kept, "PARTS", ((1, 1), (2, 3)))
    monkeypatch.setattr("sys.argv", ["kept", "--seed", "1", "--seeds", "2"])
    kept.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        [name, "0.90", part] for name in ("kept", "forgotten") for part in ("1-1", "2-3")
    ]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["--seed", "-1"], "kept: error: --seed must be at least 0, got -1"),
        (["--seeds", "0"], "kept: error: --seeds must be at least 1, got 0"),
        (["--rate", "-1"], "server_rate must be a finite number > 0, got -1.0"),
        (["--rate", "1e30"], "diverged in round"),
        (["--dataset", "mnist", "--data-dir", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_line(
    given: list[str], line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["kept", "--seeds", "1", *given])
    with pytest.raises(SystemExit) as ended:
        kept.main()
    assert ended.value.code == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert line in said
