"""What devices receive where only what moved is broadcast: lossless, and counted to the bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fltrain_cases import Constant, digits, shares
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import fltrain as ft
from fltrain import checkpoint
from fltrain.accounting import HEADER_BITS, subset_bits
from fltrain.broadcast import NEVER, Received

CONFIG = ft.TrainConfig(rounds=7, update="sparse", averaging="fill", participation=0.5, broadcast="moved")
RATIO = 0.95


def split() -> ft.Split:
    return ft.Split(ft.build_model("mlp", digits()), ("head",))


class Watched:
    """Plans like `Constant` and notes what it was told; some uploads are lost."""

    def __init__(self, ratio: float = RATIO, lost: tuple[tuple[int, int], ...] = ()) -> None:
        self.ratio, self.lost = ratio, lost
        self.told: list[ft.Workload] = []

    def __call__(self, round_index: int, workload: ft.Workload) -> ft.RoundPlan:
        self.told.append(workload)
        lost = np.array([(round_index, k) in self.lost for k in range(4)])
        return replace(Constant(4, self.ratio)(round_index, workload), lost=lost)


def trained(config: ft.TrainConfig, planner: Watched) -> tuple[ft.History, list[torch.Tensor]]:
    versions = [split().initial_global()]

    def note(t: int, u: torch.Tensor, personal: object) -> None:
        versions.append(u.clone())

    return ft.train(split(), shares(), config, planner, progress=False, observer=note), versions


def test_a_device_that_takes_what_moved_holds_the_global_part_and_nothing_else_is_counted() -> None:
    planner = Watched(lost=((1, 0), (1, 1), (1, 2), (1, 3)))
    history, versions = trained(CONFIG, planner)
    n = len(versions[0])
    held: list[torch.Tensor | None] = [None] * 4
    since: list[set[int]] = [set() for _ in range(4)]
    partial = 0
    for t, work in enumerate(planner.told):
        for k in range(4):
            old, count = held[k], n if held[k] is None else len(since[k])
            partial += count < n
            assert work.broadcast_bits[k] == HEADER_BITS + min(32 * n, 32 * count + subset_bits(n, count))
            if work.selected[k] and t != 1:  # in round 1 all uploads are lost, so that it is not known what arrived
                if old is not None:
                    rows = sorted(since[k])
                    old[rows] = versions[t][rows]
                    assert torch.equal(old, versions[t])
                held[k], since[k] = versions[t].clone(), set()
        moved = torch.nonzero(versions[t + 1] != versions[t]).ravel().tolist()
        for k in range(4):
            since[k] |= set(moved)
    assert partial > 8
    asked = [work.broadcast_bits[work.selected].max() for work in planner.told]
    assert [record["broadcast_bits"] for record in history.records] == asked
    assert min(asked) < 0.5 * max(asked) == 0.5 * (HEADER_BITS + 32 * n)


def test_training_is_the_same_bit_for_bit() -> None:
    (one, _), (other, _) = (trained(replace(CONFIG, broadcast=b), Watched()) for b in ("moved", "whole"))
    assert torch.equal(one.u, other.u)
    different = {name for a, b in zip(one.records, other.records, strict=True) for name in a if a[name] != b[name]}
    assert different == {"broadcast_bits"}
    assert {record["broadcast_bits"] for record in other.records} == {HEADER_BITS + 32.0 * len(one.u)}


def test_where_all_moves_all_is_sent_and_rounds_of_any_kind_know_the_size_of_the_model() -> None:
    planner = Watched(ratio=0.0)
    config = replace(CONFIG, rounds=3, pruning=False, participation=1.0, update="zeroed", importance="random")
    _, versions = trained(config, planner)
    moved = int((versions[1] != versions[0]).sum())
    assert planner.told[1].broadcast_bits[0] == HEADER_BITS + 32 * moved + subset_bits(len(versions[0]), moved)

    planner = Watched()
    trained(replace(CONFIG, rounds=3, participation=1.0), planner)
    first, last = planner.told[0], planner.told[-1]
    assert last.broadcast_bits.max() < first.broadcast_bits.min()
    for work in (last, last.of(np.array([1, 2])), last.as_round("frozen")):
        assert np.all(work.global_bits == first.global_bits[0])
    for old, new in ((first.unmasked(), last.unmasked()), (first.as_round("frozen"), last.as_round("frozen"))):
        np.testing.assert_array_equal(old.payload_bits, new.payload_bits)


def test_one_size_stands_for_all_devices() -> None:
    flat = np.ones(3)
    work = ft.Workload(flat, flat, flat, flat, flat, flat, flat / 3, flat > 0, global_bits=np.array([64.0]))
    assert work.of(np.array([2, 0])).global_bits.tolist() == [64.0, 64.0]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_it_is_never_more_than_all_and_who_received_later_lacks_no_more(data: st.DataObject) -> None:
    n, devices, rounds = (data.draw(st.integers(1, most)) for most in (40, 5, 6))
    received = Received.nothing(n, devices)
    assert np.all(received.bits() == HEADER_BITS + 32 * n)
    lacks: list[NDArray[np.bool_]] = [np.ones(n, dtype=np.bool_) for _ in range(devices)]
    for t in range(rounds):
        moved = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
        there = np.array(data.draw(st.lists(st.booleans(), min_size=devices, max_size=devices)))
        before = received.moved.clone()
        after = received.after(t, torch.from_numpy(moved), there)
        assert torch.equal(received.moved, before)
        received = after
        for k in range(devices):
            lacks[k] = moved if there[k] else lacks[k] | moved
    counts = [int(lack.sum()) for lack in lacks]
    bits = received.bits()
    assert np.all(bits <= HEADER_BITS + 32 * n)
    for k, count in enumerate(counts):
        expected = n if received.held[k] == NEVER else count
        assert bits[k] == HEADER_BITS + min(32 * n, 32 * expected + subset_bits(n, expected))


def test_a_resumed_run_knows_who_holds_what(tmp_path: Path) -> None:
    saved = ft.Checkpoint(tmp_path / "run.pt", every=1)
    whole, _ = trained(CONFIG, Watched())
    ft.train(split(), shares(), replace(CONFIG, rounds=3), Watched(), progress=False, checkpoint=saved)
    planner = Watched()
    resumed = ft.train(split(), shares(), CONFIG, planner, progress=False, checkpoint=saved)
    assert len(planner.told) == 4
    assert resumed.records == whole.records


@pytest.mark.parametrize("damage", [
    lambda moved, held: (moved[:-1], held),
    lambda moved, held: (moved.long(), held),
    lambda moved, held: (moved + 7, held),
    lambda moved, held: (moved, held[:-1]),
    lambda moved, held: (moved, [9, *held[1:]]),
    lambda moved, held: (moved, [-2, *held[1:]]),
])  # fmt: skip
def test_what_no_run_can_have_left_is_refused(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "run.pt"
    config = replace(CONFIG, rounds=3)
    ft.train(split(), shares(), config, Watched(), progress=False, checkpoint=ft.Checkpoint(path))
    content = checkpoint.read_whole(path)
    assert callable(damage)
    content["received"] = list(damage(*content["received"]))
    checkpoint.write_whole(path, content)
    with pytest.raises(ValueError, match="no checkpoint of this version"):
        ft.train(split(), shares(), config, Watched(), progress=False, checkpoint=ft.Checkpoint(path))


def test_a_word_that_it_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="broadcast must be one of whole, moved, got 'delta'"):
        ft.TrainConfig(broadcast="delta")  # type: ignore[arg-type]
