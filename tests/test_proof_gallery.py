"""The gallery of proofs: each holds, says what its page says, and no constant of it may be changed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from proof_mutations import run

from kktalloc.proof import Theory, verify
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


def test_the_tutorial_proves_what_it_says() -> None:
    """All blocks of the page, in order, as a reader would type them."""
    page = (FOLDER.parent.parent / "docs" / "proof-tutorial.md").read_text()
    names: dict[str, object] = {}
    seen: dict[str, int] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "docs/proof-tutorial.md", "exec"), names)
        theory = names.get("theory")
        if isinstance(theory, Theory):
            seen[theory.title] = len(theory.steps)
    refused = [verdict.reason for verdict in verify(names["descent"]) if not verdict.verified]  # type: ignore[arg-type]
    assert "\n".join(refused) in page
    assert {title: n > 3 for title, n in seen.items()} == {
        "Stochastic gradient descent, smooth and non-convex": True,
        "FedAvg, smooth and non-convex": True,
    }
