from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from fltrain_cases import digits, numbered
from hypothesis import given, settings
from hypothesis import strategies as st

import fltrain as ft


def indices_of(share: ft.DeviceData) -> tuple[set[int], set[int]]:
    """Which samples of a `numbered` data set a device trains on and holds out."""
    return (
        set(share.train_x.flatten().long().tolist()),
        set(share.test_x.flatten().long().tolist()),
    )


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    scheme=st.sampled_from(["shards", "dirichlet", "iid"]),
    devices=st.integers(1, 12),
    classes_per_device=st.integers(1, 5),
    alpha=st.floats(0.3, 10.0),
    cap=st.none() | st.integers(2, 40),
    test_fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 1000),
)
def test_partition_properties(
    scheme: str,
    devices: int,
    classes_per_device: int,
    alpha: float,
    cap: int | None,
    test_fraction: float,
    seed: int,
) -> None:
    data = numbered(400)
    deal = lambda: ft.partition(  # noqa: E731
        data,
        devices,
        scheme,  # type: ignore[arg-type]
        seed,
        classes_per_device=classes_per_device,
        dirichlet_alpha=alpha,
        samples_per_device=cap,
        test_fraction=test_fraction,
    )
    shares = deal()
    assert len(shares) == devices
    everyone: list[int] = []
    for share in shares:
        train, test = indices_of(share)
        n = len(train) + len(test)
        assert train
        assert test
        assert len(test) == min(max(1, round(test_fraction * n)), n - 1)
        assert cap is None or n <= cap
        assert len(share.train_y) == len(train)
        np.testing.assert_array_equal(share.train_y, data.y[share.train_x.flatten().long()])
        np.testing.assert_array_equal(share.test_y, data.y[share.test_x.flatten().long()])
        everyone += [*train, *test]
    assert len(everyone) == len(set(everyone))  # no sample twice: not across devices, not held out and trained
    again = deal()
    assert all(torch.equal(a.train_x, b.train_x) for a, b in zip(shares, again, strict=True))


@pytest.mark.parametrize("devices", [1, 3, 10, 37])
@pytest.mark.parametrize("classes_per_device", [1, 2, 7, 10])
def test_shards_give_each_device_its_number_of_classes(devices: int, classes_per_device: int) -> None:
    shares = ft.partition(digits(), devices, seed=3, classes_per_device=classes_per_device)
    holders = np.zeros(10, dtype=int)
    for share in shares:
        held = np.unique(np.concatenate([share.train_y, share.test_y]))
        assert len(held) == classes_per_device
        holders[held] += 1
    assert holders.max() - holders.min() <= 1
    if devices * classes_per_device >= 10:
        assert sum(len(s.train_y) + len(s.test_y) for s in shares) == 1797


def test_seeds_differ() -> None:
    for scheme in ("shards", "dirichlet", "iid"):
        a, b = (ft.partition(digits(), 5, scheme, seed=s)[0] for s in (0, 1))  # type: ignore[arg-type]
        assert a.train_y.shape != b.train_y.shape or not torch.equal(a.train_x, b.train_x)


def test_dirichlet_skew_follows_alpha() -> None:
    def skew(alpha: float) -> float:
        shares = ft.partition(digits(), 8, "dirichlet", seed=0, dirichlet_alpha=alpha)
        mixes = [np.bincount(s.train_y, minlength=10) / len(s.train_y) for s in shares]
        return float(np.mean([np.abs(mix - 0.1).sum() for mix in mixes]))

    assert skew(0.1) > 2 * skew(10.0)


def test_deal_gives_the_named_samples() -> None:
    shares = ft.deal(numbered(10), [np.array([1, 3, 5]), np.array([0, 9])], test_fraction=0.4)
    assert [set.union(*indices_of(s)) for s in shares] == [{1, 3, 5}, {0, 9}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scheme": "sorted"}, r"^scheme must be one of shards, dirichlet, iid, by_user, got 'sorted'$"),
        ({"scheme": "by_user"}, r"^scheme by_user needs users in the data set, digits has none$"),
        ({"devices": 0}, r"^devices must be >= 1, got 0$"),
        ({"classes_per_device": 11}, r"^classes_per_device must be in 1\.\.10, got 11$"),
        ({"scheme": "dirichlet", "dirichlet_alpha": 0.0}, r"^dirichlet_alpha must be a finite number > 0"),
        ({"scheme": "dirichlet", "dirichlet_alpha": 1e-4, "devices": 40}, r"leaves device \d+ of 40 without"),
        ({"samples_per_device": 1}, r"^samples_per_device must be >= 2, got 1$"),
        ({"test_fraction": 1.0}, r"^test_fraction must be in \(0, 1\), got 1\.0$"),
        ({"devices": 1500}, r"^device \d+ is left with 1 samples of digits"),
    ],
)
def test_bad_partition_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ft.partition(digits(), **({"devices": 10} | arguments))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([], r"^indices must name the samples of at least one device, got none$"),
        ([[0, 1], []], r"^device 1 is left with 0 samples"),
        ([[0, 1], [1, 2]], r"^indices deal the same sample more than once$"),
        ([[0, 10]], r"^indices must be in 0\.\.9, got 0\.\.10 for device 0$"),
    ],
)
def test_bad_deal_is_refused(indices: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ft.deal(numbered(10), [np.array(own, dtype=np.int64) for own in indices])


def test_by_user_gives_each_device_one_users_samples() -> None:
    users = np.array([7, 7, 7, 3, 3, 9, 5, 5, 5, 5])  # user 9 has one sample: nothing could be held out
    data = replace(numbered(10), users=users)
    held = [set.union(*indices_of(s)) for s in ft.partition(data, 3, "by_user")]
    assert held == [{3, 4}, {6, 7, 8, 9}, {0, 1, 2}]
    drawn = {frozenset(set.union(*indices_of(ft.partition(data, 1, "by_user", s)[0]))) for s in range(20)}
    assert len(drawn) == 3
    assert [share.name for share in ft.partition(data, 3, "by_user")] == ["3", "5", "7"]
    own, other = ft.deal(data, [np.array([0, 1]), np.array([2, 3])], test_indices=[np.array([4]), np.array([6])])
    assert (own.name, other.name) == ("", "")  # of several users
    named = ft.deal(data, [np.array([0, 1])], test_indices=[np.array([2])])
    assert named[0].name == "7"
    assert repr(named[0]).startswith("DeviceData: user 7: 2 samples to train on, 1 held out")
    with pytest.raises(ValueError, match=r"^devices must be <= 3, the users with 2 samples or more, got 4$"):
        ft.partition(data, 4, "by_user")


DATA = ft.Dataset("numbered", np.arange(12.0)[:, None], np.arange(12) % 2, 2)


def numbers(part: torch.Tensor) -> list[int]:
    return sorted(part[:, 0].int().tolist())


def test_a_split_of_ones_own_is_taken_as_it_is() -> None:
    shares = ft.deal(DATA, [[0, 1, 2], [3, 4]], test_indices=[[5, 6], [6, 7, 8]])
    assert [numbers(s.train_x) for s in shares] == [[0, 1, 2], [3, 4]]
    assert [numbers(s.test_x) for s in shares] == [[5, 6], [6, 7, 8]]
    assert shares[0].train_y.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("test_indices", "message"),
    [
        ([[5]], r"^test_indices must have an entry for each of 2 devices, got 1$"),
        ([[5], []], r"^device 1 has 2 samples to train on and 0 held out; it needs both$"),
        ([[5], [2]], r"^test_indices\[1\] holds sample 2, which a device trains on$"),
        ([[5], [7, 7]], r"^test_indices\[1\] names a sample twice$"),
        ([[5], [12]], r"^test_indices must be in 0\.\.11, got 12\.\.12 for device 1$"),
        ([[5], [0.5]], r"^test_indices\[1\] must be whole numbers \(n,\), got float64 of shape \(1,\)$"),
    ],
)
def test_a_split_that_leaks_or_lacks_is_refused(test_indices: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ft.deal(DATA, [[0, 1, 2], [3, 4]], test_indices=test_indices)


@given(seed=st.integers(0, 10_000), fraction=st.floats(0.05, 0.9))
def test_no_group_is_on_both_sides(seed: int, fraction: float) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.choice(["monday", "tuesday", "friday"], 12)
    groups[[0, 6]], groups[[1, 7]] = "monday", "sunday"
    shares = ft.deal(DATA, [np.arange(6), np.arange(6, 12)], groups=groups, test_fraction=fraction, seed=seed)
    for share in shares:
        train, test = numbers(share.train_x), numbers(share.test_x)
        assert train
        assert test
        assert len(train) + len(test) == 6
        assert not set(groups[train]) & set(groups[test])
        # Without the group that was drawn last it would be too little; too little it is only if one group is left.
        largest = max(np.count_nonzero(groups[test] == group) for group in set(groups[test]))
        assert len(test) - largest < fraction * 6
        assert len(test) >= fraction * 6 or len(set(groups[train])) == 1


def test_groups_of_one_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^device 0 has samples of one group only, a; it needs one to hold out$"):
        ft.deal(DATA, [[0, 1]], groups=["a"] * 12)
    with pytest.raises(ValueError, match=r"^groups must have shape \(12,\) to match y, got \(2,\)$"):
        ft.partition(DATA, 2, "iid", groups=np.array(["a", "b"]))
