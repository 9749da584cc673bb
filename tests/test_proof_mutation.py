"""Constants of claims and certificates, changed one at a time, are noticed.

Every eighth here, in every step; ``python tests/proof_mutations.py`` does all of them.
"""

from __future__ import annotations

from itertools import islice

import pytest
from proof_mutations import mutants, own_steps, run, survives

from kktalloc.proof._checker import Checker

OWN = {key: (theory, names) for key, theory, names in own_steps()}


@pytest.mark.parametrize("key", list(OWN))
def test_no_mutant_survives(key: str) -> None:
    theory, names = OWN[key]
    total, survivors = run(theory, names, every=8)
    assert total > 3 * len(names)
    assert [(survivor.step.name, survivor.change) for survivor in survivors] == []


def test_a_part_alone_tells_what_the_whole_does() -> None:
    """`survives` looks at the changed part only; the checker, given all of the mutant, says the same."""
    theory, _ = OWN["lemmas"]
    checker = Checker(theory.signature)
    known = {fact.name: fact.claim for fact in theory.facts}
    for step in theory.steps:
        for mutant in islice(mutants(step, theory.signature), 0, None, 5):
            assert checker.check(mutant.step, known).verified == survives(mutant, checker, known)
        known[step.name] = step.claim
