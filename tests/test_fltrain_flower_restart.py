"""A Flower server that ends early and is started again; nodes answer in this process."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from flower_cases import RUN, in_process, split_prune
from flwr.app import MessageType, RecordDict
from test_fltrain_flower import DirectGrid, kept, same, serve

import fltrain as ft
from fltrain import flower

LONG = RUN | {"rounds": 6}


class CrashError(Exception):
    pass


def serve_until(crash: int, grid: DirectGrid, checkpoint: ft.Checkpoint, run: dict[str, Any] = LONG) -> None:
    """A server that dies when it plans round `crash`."""
    split, _, config = split_prune.federation(run)
    plan = split_prune.allocator(run)

    def allocate(t: int, work: ft.Workload, gain: Any) -> ft.RoundPlan:
        if t == crash:
            raise CrashError
        return plan(t, work, gain)

    with pytest.raises(CrashError):
        flower.serve(grid, split, config, allocate, run["devices"], checkpoint=checkpoint, gather_s=0.0)


@pytest.mark.parametrize(("every", "crashes"), [(1, (2,)), (2, (3,)), (2, (4,)), (3, (2, 4, 5)), (5, (4,))])
def test_a_restarted_server_ends_with_the_uninterrupted_run(
    every: int, crashes: tuple[int, ...], tmp_path: Path
) -> None:
    """Each start is a run of its own with empty contexts; personal parts come back from the state files.

    Between the checkpoint and the crash devices went on; they return to what the checkpoint knows.
    """
    checkpoint = ft.Checkpoint(tmp_path / "run.pt", every=every)
    for crash in crashes:
        serve_until(crash, DirectGrid(LONG, tmp_path), checkpoint)
    grid, expected = DirectGrid(LONG, tmp_path), in_process(LONG)
    history = serve(grid, LONG, checkpoint=checkpoint)
    assert history.records == expected.records
    assert torch.equal(history.u, expected.u)
    for k, state in enumerate(expected.personal):
        assert 2 <= len(kept(grid, k)) <= 3
        assert any(same(state, other) for other in kept(grid, k))
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"run.pt", "device-0.pt", "device-1.pt", "device-2.pt"}


def test_a_restarted_supernode_takes_up_its_personal_part(tmp_path: Path) -> None:
    """It is another node to Flower, with an empty context; who it is, its configuration says."""
    grid, seen = DirectGrid(LONG, tmp_path), []

    def alter(kind: str, node: int, content: RecordDict) -> RecordDict:
        if (kind, node) == (MessageType.TRAIN, 101):
            seen.append(node)
            if len(seen) == 2:
                grid.contexts[201] = DirectGrid(LONG, tmp_path).contexts[101]
                del grid.contexts[101]
        return content

    grid.alter = alter
    assert serve(grid, LONG).records == in_process(LONG).records
    assert (MessageType.TRAIN, 201) in grid.asked


def test_a_new_run_does_not_take_up_an_old_personal_part(tmp_path: Path) -> None:
    first = serve(DirectGrid(RUN, tmp_path))
    again = serve(DirectGrid(RUN, tmp_path))
    assert again.records == first.records == in_process().records


def test_a_personal_part_that_is_lost_begins_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint = ft.Checkpoint(tmp_path / "run.pt", every=1)
    serve_until(3, DirectGrid(LONG, tmp_path), checkpoint)
    (tmp_path / "device-1.pt").unlink()
    with caplog.at_level(logging.WARNING):
        history = serve(DirectGrid(LONG, tmp_path), LONG, checkpoint=checkpoint)
    expected = in_process(LONG)
    assert caplog.text.count("device 1 has lost its personal part and begins a new one") == 1
    assert "device 0 has lost" not in caplog.text
    assert history.records[:3] == expected.records[:3]
    assert history.records[3]["train_loss"] > expected.records[3]["train_loss"]


def test_a_server_goes_on_without_a_device_that_died_meanwhile(tmp_path: Path) -> None:
    checkpoint = ft.Checkpoint(tmp_path / "run.pt", every=1)
    serve_until(2, DirectGrid(LONG, tmp_path), checkpoint)
    grid = DirectGrid(LONG, tmp_path)
    del grid.contexts[101]
    history = serve(grid, LONG, checkpoint=checkpoint)
    expected = in_process(LONG, absent=lambda t: [1] * (t >= 2))
    assert torch.equal(history.u, expected.u)
    assert [r["participants"] for r in history.records] == [3, 3, 2, 2, 2, 2]


def test_a_checkpoint_of_another_federation_is_refused(tmp_path: Path) -> None:
    checkpoint = ft.Checkpoint(tmp_path / "run.pt", every=1)
    serve_until(2, DirectGrid(LONG, tmp_path), checkpoint)
    for change, message in (({"devices": 4}, "devices was 3, is 4"), ({"seed": 1}, "seed was 0, is 1")):
        with pytest.raises(ValueError, match=rf"is of another run: {message}$"):
            serve(DirectGrid(LONG | change), LONG | change, checkpoint=checkpoint)


def test_a_state_file_in_no_folder_is_refused_at_the_start(tmp_path: Path) -> None:
    context = DirectGrid(RUN, tmp_path / "missing").contexts[100]
    with pytest.raises(ValueError, match=r"^state_file must lie in an existing folder, got .*missing"):
        split_prune.set_up(context)
