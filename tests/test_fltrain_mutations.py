"""The list of mutations fits the code; running it is a command (see fltrain_mutations.py)."""

from __future__ import annotations

import subprocess
import sys

import pytest
from fltrain_mutations import MUTATIONS, ROOT, Mutation, mutated

import fltrain as ft


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)
def test_every_mutation_changes_one_place_that_tests_look_at(mutation: Mutation) -> None:
    compile(mutated(mutation), mutation.file, "exec")
    assert all((ROOT / "tests" / name).is_file() for name in mutation.tests.split(" -k ")[0].split())


def test_every_column_has_a_mutation() -> None:
    assert [name for name in ft.COLUMNS if not any(m.name.split()[0] == name for m in MUTATIONS)] == []


def test_a_mutation_is_noticed_and_a_harmless_change_is_not() -> None:
    program = """
from fltrain_mutations import MUTATIONS, survives
wrong = next(m for m in MUTATIONS if m.name == "t interval of the deviation")
print(survives(wrong), survives(wrong._replace(new=wrong.old + "  # the same")))
"""
    here = str(ROOT / "tests")
    done = subprocess.run([sys.executable, "-c", program], cwd=here, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
