"""Batches drawn without replacement over the steps of a round break A2 and the theorem; the sampler draws both ways."""

from __future__ import annotations

import itertools

import numpy as np

import fltrain as ft
from fltrain.local import draw_batches
from validation.bound.counterexample import EACH_ONCE, WITH_REPLACEMENT, measured_over_bound


def test_without_replacement_the_theorem_is_false() -> None:
    assert measured_over_bound(WITH_REPLACEMENT) <= 1
    assert measured_over_bound(EACH_ONCE) > 20


def test_the_sampler_draws_both_ways() -> None:
    """Epochs show every sample once before any comes again, as in the counterexample; with replacement not."""
    rng = np.random.default_rng(0)
    epochs = [tuple(draw_batches(rng, 2, 1, 2, "epochs").ravel()) for _ in range(40)]
    drawn = [tuple(draw_batches(rng, 2, 1, 2, "replacement").ravel()) for _ in range(40)]
    assert set(epochs) == {(0, 1), (1, 0)}
    assert set(drawn) == set(itertools.product((0, 1), repeat=2))
    assert ft.TrainConfig(sampling="replacement").sampling == "replacement"
