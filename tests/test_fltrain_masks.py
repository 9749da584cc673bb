from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fltrain.masks import keep_mask


@settings(deadline=None, derandomize=True, max_examples=200)
@given(
    scores=st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0]) | st.floats(0, 10, width=32), min_size=1),
    rho=st.floats(0, 1),
)
def test_keeps_exactly_the_top_with_lowest_index_first(scores: list[float], rho: float) -> None:
    mask = keep_mask(torch.tensor(scores), rho).numpy()
    keep = round((1 - rho) * len(scores))
    order = np.lexsort((np.arange(len(scores)), -np.float32(scores)))  # slow reference: a stable full sort
    expected = np.zeros(len(scores), dtype=bool)
    expected[order[:keep]] = True
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(("rho", "kept"), [(0.0, 5), (1.0, 0), (0.2, 4), (0.5, 2), (0.9, 0)])
def test_known_counts(rho: float, kept: int) -> None:
    assert int(keep_mask(torch.arange(5.0), rho).sum()) == kept
