"""Constants of claims and certificates, changed one at a time, are noticed.

Every fourth here, in every step; ``python tests/proof_mutations.py`` does all of them.
"""

from __future__ import annotations

import pytest
from proof_mutations import own_steps, run

OWN = {key: (theory, names) for key, theory, names in own_steps()}


@pytest.mark.parametrize("key", list(OWN))
def test_no_mutant_survives(key: str) -> None:
    theory, names = OWN[key]
    total, survivors = run(theory, names, every=4)
    assert total > 5 * len(names)
    assert [(survivor.step.name, survivor.change) for survivor in survivors] == []
