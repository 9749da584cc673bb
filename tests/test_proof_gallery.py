"""The gallery of proofs: each holds, says what its page says, and no constant of it may be changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from proof_mutations import run

from kktalloc.proof import verify
from kktalloc.proof._files import load_theories

FOLDER = Path(__file__).parent.parent / "examples" / "proofs"
LAST = {
    "gradient_descent": "rate",
    "sgd": "rate",
    "fedavg": "rate",
    "scaffold": "rate",
    "pl_rate": "linear rate",
}


def test_the_gallery_is_complete() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == set(LAST)


@pytest.mark.parametrize("name", list(LAST))
def test_every_step_holds_and_no_mutant_survives(name: str) -> None:
    (theory,) = load_theories(FOLDER / f"{name}.py").values()
    assert [(v.step.name, v.reason) for v in verify(theory) if not v.verified] == []
    assert theory.steps[-1].name == LAST[name]
    total, survivors = run(theory, {step.name for step in theory.steps}, every=9)
    assert total > 10
    assert [(survivor.step.name, survivor.change) for survivor in survivors] == []
