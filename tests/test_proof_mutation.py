"""Every constant of every claim and certificate, changed one at a time, is noticed."""

from __future__ import annotations

import pytest
from proof_mutations import own_steps, run

OWN = {key: (theory, names) for key, theory, names in own_steps()}


@pytest.mark.parametrize("key", list(OWN))
def test_no_mutant_survives(key: str) -> None:
    theory, names = OWN[key]
    total, survivors = run(theory, names)
    assert total > 20 * len(names)
    assert [(survivor.step.name, survivor.change) for survivor in survivors] == []
