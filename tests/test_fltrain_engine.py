from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from fltrain_cases import Constant, shares
from torch import nn

import fltrain as ft
import fltrain.engine
from fltrain.engine import InProcess, Workers
from fltrain.local import Job

ROOT = Path(__file__).parents[1]
CONFIG = ft.TrainConfig(rounds=3, personal_steps=3, pruned_steps=3, participation=0.75)


def with_batch_norm_and_dropout() -> ft.Split:
    torch.manual_seed(0)
    body = [nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Dropout(), nn.Linear(216, 10)]
    return ft.Split(nn.Sequential(*body), ("5",))


@pytest.mark.parametrize("workers", [2, 3])
def test_results_do_not_depend_on_the_number_of_workers(workers: int) -> None:
    split, planner = with_batch_norm_and_dropout(), Constant(4, 0.4)
    one = ft.train(split, shares(), CONFIG, planner, progress=False)
    more = ft.train(split, shares(), CONFIG, planner, progress=False, workers=workers)
    assert more.records == one.records
    assert torch.equal(more.u, one.u)
    for a, b in zip(more.personal, one.personal, strict=True):
        assert torch.equal(a.v, b.v)
        assert len(a.buffers) == 3
        for mine, other in zip(a.buffers, b.buffers, strict=True):
            assert torch.equal(mine, other)
            assert mine.shape == other.shape


@pytest.fixture(scope="module")
def pool() -> Iterator[Workers]:
    with closing(Workers(with_batch_norm_and_dropout(), shares(), CONFIG, 2)) as engine:
        yield engine


def test_uploads_come_in_the_order_of_the_jobs(pool: Workers) -> None:
    split = with_batch_norm_and_dropout()
    u, personal = split.initial_global(), [split.initial_personal()] * 4
    jobs = [Job(k, rho, "zeroed") for k, rho in ((2, 0.5), (0, 0.0), (3, 0.9), (1, 0.1))]
    inside = InProcess(split, shares(), CONFIG)
    seen = []
    for mine, theirs in zip(pool.uploads(7, u, personal, jobs), inside.uploads(7, u, personal, jobs), strict=True):
        assert mine.device == theirs.device
        assert mine.values is not None
        assert theirs.values is not None
        assert torch.equal(mine.values, theirs.values)
        assert (mine.mask is None) == (theirs.mask is None) == (jobs[len(seen)][1] == 0.0)
        assert (mine.loss, mine.bits) == (theirs.loss, theirs.bits)
        seen.append(mine.device)
    assert seen == [2, 0, 3, 1]
    assert pool.accuracies(u, personal) == inside.accuracies(u, personal)
    assert list(pool.uploads(0, u, personal, [])) == []


def test_an_error_in_a_worker_is_shown(pool: Workers) -> None:
    split = with_batch_norm_and_dropout()
    u, personal = split.initial_global(), [split.initial_personal()] * 4
    with pytest.raises(RuntimeError, match=r"worker process \d failed:\n(.|\n)*ValueError: kth"):
        list(pool.uploads(0, u, personal, [Job(0, 2.5, "zeroed")]))  # a ratio no plan can hold


def test_a_dead_worker_ends_the_run_with_a_message() -> None:
    split = with_batch_norm_and_dropout()
    u, personal = split.initial_global(), [split.initial_personal()] * 4
    with closing(Workers(split, shares(), CONFIG, 1)) as engine:
        list(engine.uploads(0, u, personal, [Job(0, 0.0, "zeroed")]))
        pid = engine._processes[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(RuntimeError, match=r"^worker process 0 died with exit code -9: .* runs out; use fewer"):
            list(engine.uploads(1, u, personal, [Job(0, 0.0, "zeroed")]))


def test_too_little_shared_memory_is_said_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    full = os.statvfs_result((4096, 4096, 10, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    monkeypatch.setattr(fltrain.engine, "_SHARED_MEMORY", Path("/"))
    with pytest.raises(OSError, match=r"^workers need \d+ MB of shared memory, / has 0 MB left; use workers=1"):
        Workers(with_batch_norm_and_dropout(), shares(), CONFIG, 2)


def test_number_of_workers_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"^workers must be >= 1, got 0$"):
        ft.train(with_batch_norm_and_dropout(), shares(), CONFIG, Constant(4), workers=0)


def test_in_process_accuracies_are_right() -> None:
    split = with_batch_norm_and_dropout()
    state = split.initial_personal()
    model = split.assemble(split.initial_global(), state).eval()
    expected = [float((model(s.test_x).argmax(1) == s.test_y).double().mean()) for s in shares()]
    found = InProcess(split, shares(), CONFIG).accuracies(split.initial_global(), [state] * 4)
    np.testing.assert_allclose(found, expected)


INTERRUPTED = """
import os, re, signal, sys
from pathlib import Path
sys.path.insert(0, "tests")
from test_fltrain_engine import CONFIG, Workers, shares, with_batch_norm_and_dropout

def main():
    engine = Workers(with_batch_norm_and_dropout(), shares(), CONFIG, 2)
    for process in engine._processes:  # the first, and one of the next
        held = re.search(r"SigBlk:\\t(\\w+)", Path(f"/proc/{process.pid}/status").read_text())[1]
        assert int(held, 16) >> signal.SIGINT - 1 & 1, f"worker {process.pid} would hear of an interrupt"
    try:
        os.killpg(0, signal.SIGINT)  # while the workers still import torch
        signal.pause()
    except KeyboardInterrupt:
        engine.close()
        print("closed")

if __name__ == "__main__":
    main()
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="what a process holds back is read as on Linux")
def test_workers_never_hear_of_an_interrupt() -> None:
    command = [sys.executable, "-c", INTERRUPTED]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, start_new_session=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "closed\n", "")
