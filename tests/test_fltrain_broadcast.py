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
from fltrain.broadcast import NEVER, OVERLAP, Moves, Received

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
        after = received.after(t, torch.from_numpy(moved), there, np.full(devices, RATIO))
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


def masks(n: int, ratio: NDArray[np.float64], common: float, seed: int) -> NDArray[np.bool_]:
    """Of devices (S, n) that keep their largest of values which they share for a part `common`."""
    rng = np.random.default_rng(seed)
    value = common * rng.standard_normal(n) + (1.0 - common) * rng.standard_normal((len(ratio), n))
    return np.array([each >= np.quantile(each, rho) for each, rho in zip(value, ratio, strict=True)])


def after_one(n: int, kept: NDArray[np.bool_], ratio: NDArray[np.float64]) -> Received:
    devices = len(ratio)
    everyone = np.ones(devices, dtype=np.bool_)
    return Received.nothing(n, devices).after(0, torch.from_numpy(kept.any(axis=0)), everyone, ratio)


def test_how_masks_overlap_is_learnt_from_what_moved() -> None:
    n, ratio = 20000, np.array([0.9, 0.95, 0.97, 0.8, 0.92])
    assert after_one(n, masks(n, ratio, 0.0, 1), ratio).overlap == pytest.approx(1.0, abs=0.03)
    alike = after_one(n, masks(n, np.full(5, 0.9), 1.0, 2), np.full(5, 0.9))
    assert alike.overlap == pytest.approx(1.0 / 5.0, abs=0.01)
    # What the next round will move, were it like this one, is what this one moved.
    kept = masks(n, ratio, 0.6, 3)
    received = after_one(n, kept, ratio)
    nobody = np.zeros(5, dtype=np.bool_)
    assert received.moves(nobody).next_bits(ratio) == pytest.approx(received.bits()[0])
    # And at other ratios about what masks that overlap as much move.
    harder = 1.0 - 0.5 * (1.0 - ratio)
    real = after_one(n, masks(n, harder, 0.6, 3), harder).bits()[0]
    assert received.moves(nobody).next_bits(harder) == pytest.approx(real, rel=0.15)


def test_nothing_is_learnt_of_masks_where_somebody_prunes_nothing_or_everybody_all() -> None:
    n = 100
    kept = np.zeros((2, n), dtype=np.bool_)
    kept[0] = np.arange(n) < 30
    for ratio in ([0.0, 0.7], [1e-9, 0.7], [0.4, 0.7], [1.0, 1.0], []):
        assert after_one(n, kept, np.array(ratio)).overlap == OVERLAP
    nothing, all_of_it = np.zeros_like(kept), np.ones_like(kept)
    for moved in (nothing, all_of_it):
        received = after_one(n, moved, np.array([0.99, 0.99]))
        assert received.overlap == OVERLAP
        assert received.moves(np.zeros(2, dtype=np.bool_)).next_bits([0.0, 0.0]) == HEADER_BITS + 32 * n
    assert after_one(n, kept, np.array([0.7, 1.0])).overlap == pytest.approx(1.0)


def test_the_next_broadcast_by_hand() -> None:
    n = 1000
    independent = Moves(n, overlap=1.0)
    ratio = np.array([[0.0, 0.9], [0.9, 0.9], [0.9, 1.0], [1.0, 1.0]])
    expected = [HEADER_BITS + min(32 * n, 32 * c + subset_bits(n, c)) for c in (n, 190.0, 100.0, 0.0)]
    np.testing.assert_allclose(independent.next_bits(ratio), expected)
    # Who is not drawn and lacks all will be sent all; who lacks half is sent the half, and what moves of the rest.
    np.testing.assert_array_equal(replace(independent, behind=1.0).next_bits(ratio), HEADER_BITS + 32.0 * n)
    half = HEADER_BITS + 32 * 595 + subset_bits(n, 595)
    assert replace(independent, behind=0.5).next_bits(ratio[1]) == pytest.approx(half)
    rising = Moves(n, 0.6).next_bits(np.linspace(0.0, 1.0, 50)[:, None])
    assert np.all(np.diff(rising) <= 0.0)


@pytest.mark.parametrize("ratio", [0.8, 0.9, 0.97])
def test_trained_masks_overlap_as_they_did_the_round_before(ratio: float) -> None:
    planner = Watched()

    def varied(t: int, work: ft.Workload) -> ft.RoundPlan:
        planned = planner(t, work)
        keep = (1.0 - ratio) * np.array([0.7, 0.9, 1.1, 1.3]) * (1.25 if t % 2 else 0.8)
        return replace(planned, pruning_ratio=1.0 - keep)

    config = replace(CONFIG, participation=1.0, rounds=12)
    history = ft.train(split(), shares(), config, varied, progress=False)
    ratios = [record["pruning_ratio_per_device"] for record in history.records]
    for t, (now, later) in enumerate(zip(planner.told, planner.told[1:], strict=False)):
        assert now.moves is not None
        assert 0.2 < now.moves.overlap < 1.0
        if t:
            assert now.moves.next_bits(ratios[t]) == pytest.approx(later.broadcast_bits[0], rel=0.15)


def test_a_round_knows_who_of_the_next_will_be_behind() -> None:
    planner = Watched()
    trained(replace(CONFIG, rounds=16), planner)
    partly = 0
    for now, later in zip(planner.told, planner.told[1:], strict=False):
        assert now.moves is not None
        foretold, real = now.moves.next_bits([RATIO, RATIO]), later.broadcast_bits[later.selected].max()
        # Who lacks an earlier round lacks much of what this one moves as well, and is sent it once.
        assert 0.8 * real < foretold < (1.25 if (later.selected <= now.selected).all() else 1.7) * real
        partly += 0.0 < now.moves.behind < 1.0
    assert partly > 4
    assert all(work.moves.overlap != OVERLAP for work in planner.told[1:] if work.moves)
    planner = Watched()
    trained(replace(CONFIG, participation=1.0, rounds=4), planner)
    assert {work.moves.behind for work in planner.told if work.moves} == {0.0}
    planner = Watched()
    trained(replace(CONFIG, broadcast="whole", rounds=2), planner)
    assert {work.moves for work in planner.told} == {None}


def test_a_resumed_run_knows_who_holds_what(tmp_path: Path) -> None:
    saved = ft.Checkpoint(tmp_path / "run.pt", every=1)
    again = Watched()
    whole, _ = trained(CONFIG, again)
    ft.train(split(), shares(), replace(CONFIG, rounds=3), Watched(), progress=False, checkpoint=saved)
    planner = Watched()
    resumed = ft.train(split(), shares(), CONFIG, planner, progress=False, checkpoint=saved)
    assert len(planner.told) == 4
    assert planner.told[0].moves == again.told[3].moves != Moves(len(whole.u))
    assert resumed.records == whole.records


@pytest.mark.parametrize("damage", [
    lambda moved, held, overlap: (moved[:-1], held, overlap),
    lambda moved, held, overlap: (moved.long(), held, overlap),
    lambda moved, held, overlap: (moved + 7, held, overlap),
    lambda moved, held, overlap: (moved, held[:-1], overlap),
    lambda moved, held, overlap: (moved, [9, *held[1:]], overlap),
    lambda moved, held, overlap: (moved, [-2, *held[1:]], overlap),
    lambda moved, held, overlap: (moved, held, 0.0),
    lambda moved, held, overlap: (moved, held, float("nan")),
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


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"n": 0}, "n must be"),
        ({"n": 2.5}, "n must be"),
        ({"overlap": 0.0}, "overlap must be a finite number > 0, got 0.0"),
        ({"overlap": float("nan")}, "overlap must be a finite number > 0, got nan"),
        ({"behind": 1.5}, r"behind must be in \[0, 1\], got 1.5"),
    ],
)
def test_moves_that_cannot_be_are_refused(given: dict[str, float], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        Moves(**({"n": 10} | given))  # type: ignore[arg-type]
    for ratio in (1.5, -0.1, float("nan")):
        with pytest.raises(ValueError, match=r"pruning_ratio must be in \[0, 1\], got"):
            Moves(10).next_bits([0.5, ratio])


def test_a_word_that_it_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="broadcast must be one of whole, moved, got 'delta'"):
        ft.TrainConfig(broadcast="delta")  # type: ignore[arg-type]
