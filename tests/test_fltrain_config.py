from __future__ import annotations

import inspect

import pytest

import fltrain as ft


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rounds", 0),
        ("rounds", 1.5),
        ("personal_steps", -1),
        ("pruned_steps", 0),
        ("batch_size", 0),
        ("evaluate_every", 0),
        ("seed", -3),
        ("learning_rate_global", 0.0),
        ("learning_rate_personal", float("nan")),
        ("participation", 0.0),
        ("participation", 1.1),
        ("importance", "hessian"),
        ("algorithm", "fedprox"),
        ("aggregation", "median"),
        ("structure", "rows"),
    ],
)
def test_bad_field_is_named_with_its_value(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{field} must be .*{value!r}$") as caught:
        ft.TrainConfig(**{field: value})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_simultaneous_has_no_separate_personal_steps() -> None:
    with pytest.raises(ValueError, match=r"^personal_steps must be 0 when algorithm is simultaneous, got 5$"):
        ft.TrainConfig(algorithm="simultaneous")


@pytest.mark.parametrize(
    ("changes", "probes"),
    [
        ({}, True),
        ({"importance": "taylor"}, True),
        ({"importance": "magnitude"}, False),
        ({"importance": "random"}, False),
        ({"pruning": False}, False),
        ({"probe_steps": 0}, False),
    ],
)
def test_probe_runs_only_where_importance_needs_it(changes: dict[str, object], probes: bool) -> None:
    assert ft.TrainConfig(**changes).probes is probes  # type: ignore[arg-type]


def test_every_field_has_a_docstring() -> None:
    source = inspect.getsource(ft.TrainConfig)
    for name in ft.TrainConfig().to_dict():
        after = source.split(f"    {name}: ", 1)[1].split("\n", 2)[1]
        assert after.strip().startswith('"""'), name
