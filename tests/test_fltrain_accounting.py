from __future__ import annotations

import math

import numpy as np
import pytest
from fltrain_cases import digits, shares
from hypothesis import given, settings
from hypothesis import strategies as st

import fltrain as ft
from fltrain.accounting import HEADER_BITS, subset_bits


def mlp_split(personal: tuple[str, ...] = ("head",)) -> ft.Split:
    return ft.Split(ft.build_model("mlp", digits()), personal)


# Multiply-adds per sample of the three layers of the digits MLP.
FC1, FC2, HEAD = 64 * 64, 64 * 32, 32 * 10


def test_flops_against_hand_counts() -> None:
    config = ft.TrainConfig(personal_steps=3, probe_steps=2, pruned_steps=4, batch_size=16)
    work = ft.count_workload(mlp_split(), config, shares())
    forward = FC1 + FC2 + HEAD
    head_step = 2 * 16 * (forward + HEAD)  # one product for the head's own slope, none below it
    # Below the head: slope of both weights, and of the inputs of head and fc2 but not of fc1.
    body_step = 2 * 16 * (forward + FC1 + FC2 + HEAD + FC2)
    np.testing.assert_array_equal(work.personal_flops, 3 * head_step)
    np.testing.assert_array_equal(work.probe_flops, 2 * body_step)
    np.testing.assert_array_equal(work.pruned_flops, 4 * body_step)


def test_simultaneous_and_fedavg_flops() -> None:
    forward = FC1 + FC2 + HEAD
    full_step = 2 * 16 * (forward + FC1 + FC2 + HEAD + FC2 + HEAD)
    config = ft.TrainConfig(algorithm="simultaneous", personal_steps=0, pruned_steps=1, batch_size=16)
    assert set(ft.count_workload(mlp_split(), config, shares()).pruned_flops) == {full_step}
    config = ft.TrainConfig(personal_steps=5, pruned_steps=1, batch_size=16, pruning=False)
    work = ft.count_workload(mlp_split(()), config, shares())
    assert set(work.pruned_flops) == {full_step}
    assert not work.personal_flops.any()
    assert not work.probe_flops.any()


def test_devices_with_less_than_a_batch_do_less() -> None:
    few = [*ft.partition(digits(), 2, seed=0, samples_per_device=10, test_fraction=0.2), *shares()]
    work = ft.count_workload(mlp_split(), ft.TrainConfig(batch_size=16, aggregation="samples"), few)
    np.testing.assert_allclose(work.pruned_flops / work.pruned_flops[-1], [0.5, 0.5, 1, 1, 1, 1])
    np.testing.assert_allclose(work.weight, np.array([8, 8, 64, 64, 64, 64]) / 272)


def test_convolution_flops() -> None:
    split = ft.Split(ft.build_model("cnn", digits()), ("head",))
    config = ft.TrainConfig(personal_steps=0, probe_steps=0, pruned_steps=1, batch_size=8)
    conv1, conv2, fc1, head = 64 * 16 * 9, 16 * 32 * 16 * 9, 128 * 64, 640
    forward, slopes, inputs = conv1 + conv2 + fc1 + head, conv1 + conv2 + fc1, conv2 + fc1 + head
    work = ft.count_workload(split, config, shares())
    assert set(work.pruned_flops) == {2 * 8 * (forward + slopes + inputs)}


def test_bits_are_those_of_the_global_part() -> None:
    split = mlp_split()
    n = 64 * 64 + 64 + 64 * 32 + 32
    work = ft.count_workload(split, ft.TrainConfig(), shares())
    assert set(work.payload_bits) == {32.0 * n}
    assert set(work.overhead_bits) == {float(n + HEADER_BITS)}
    assert set(work.broadcast_bits) == {32.0 * n + HEADER_BITS}
    plain = ft.count_workload(split, ft.TrainConfig(pruning=False), shares())
    assert set(plain.overhead_bits) == {float(HEADER_BITS)}


@settings(deadline=None, derandomize=True, max_examples=200)
@given(st.integers(1, 10**6), st.floats(0, 1))
def test_planned_overhead_covers_every_mask(n: int, share: float) -> None:
    """The mask is never longer than the one bit per coordinate that the workload announces."""
    kept = round(share * n)
    assert 0 <= subset_bits(n, kept) <= n


@pytest.mark.parametrize(
    ("n", "kept", "mask_bits"),
    [
        (1024, 1024, 0.0),
        (1024, 0, 0.0),
        (1024, 512, 1024.0),
        (1024, 1, 10.0),  # one index of 10 bits beats the entropy, 11.4
        (1024, 1023, 10.0),
        (1024, 256, 1024 * (2 - 0.75 * math.log2(3))),
    ],
)
def test_mask_coding(n: int, kept: int, mask_bits: float) -> None:
    assert subset_bits(n, kept) == pytest.approx(mask_bits)
