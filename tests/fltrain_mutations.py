"""Breaks every reported statistic, durable write and check of fltrain on purpose, and sees a test fail.

    python tests/fltrain_mutations.py              all of them, one after the other (ten minutes)
    python tests/fltrain_mutations.py train_loss   those whose name contains the word

They stand in fltrain_mutations.toml. Each works on a copy of the packages. Exit code 1 if one goes unnoticed. Those of
Flower run where it is installed, the others where it is not.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest
import torch  # noqa: F401

from kktalloc import _command

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("fltrain", "kktalloc", "validation", "paper", "tests", "docs", "examples")


class Mutation(NamedTuple):
    """One line of code made wrong, and where a test must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str


MUTATIONS = [
    Mutation(**entry)
    for entry in tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))["mutation"]
]


def survives(mutation: Mutation) -> bool:
    """Whether the tests pass although the code is wrong. This process must not have imported the packages itself."""
    first, *rest = mutation.tests.split(" -k ")
    arguments = ["-q", "-x", "-p", "no:cacheprovider", *(f"tests/{name}" for name in first.split())]
    arguments += ["-k", rest[0]] if rest else []
    with tempfile.TemporaryDirectory() as folder:
        unread = shutil.ignore_patterns("__pycache__", "results")
        for package in PACKAGES:
            shutil.copytree(ROOT / package, Path(folder) / package, ignore=unread)
        shutil.copy(ROOT / "pyproject.toml", folder)
        (Path(folder) / mutation.file).write_text(mutated(mutation), encoding="utf-8")
        child = os.fork()  # what is slow to import, and not ours, is there already
        if child == 0:
            _run(folder, arguments)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code not in (0, 1):  # 1: a test failed
            said = (Path(folder) / "output").read_text(encoding="utf-8", errors="replace")
            raise RuntimeError(f"{mutation.name}: pytest could not run the tests\n{said[-2000:]}")
    return code == 0


def _run(folder: str, arguments: list[str]) -> NoReturn:
    """Be a process that runs tests in `folder`."""
    code = 3
    try:
        os.chdir(folder)
        output = os.open("output", os.O_CREAT | os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(output, stream)
        sys.path[:0] = [folder, f"{folder}/tests"]
        os.environ |= {"PYTHONPATH": f"{folder}{os.pathsep}{folder}/tests", "OMP_NUM_THREADS": "1", "CI": ""}
        code = int(pytest.main(arguments))
    finally:
        os._exit(code)


def mutated(mutation: Mutation) -> str:
    """The file with the mutation; ValueError if the text to replace does not stand in it once."""
    source = (ROOT / mutation.file).read_text(encoding="utf-8")
    if source.count(mutation.old) != 1:
        raise ValueError(
            f"{mutation.name}: {mutation.old!r} stands {source.count(mutation.old)} times in {mutation.file}"
        )
    return source.replace(mutation.old, mutation.new)


def main(words: list[str]) -> int:
    """Run the mutations whose names contain one of `words`, or all."""
    flower = importlib.util.find_spec("flwr") is not None
    chosen = [m for m in MUTATIONS if m.name.startswith("flower") == flower]
    chosen = [m for m in chosen if not words or any(word in m.name for word in words)]
    unnoticed = 0
    for mutation in chosen:
        lives = survives(mutation)
        unnoticed += lives
        print(f"{'UNNOTICED' if lives else 'noticed  '} {mutation.name}", flush=True)
    print(f"{len(chosen) - unnoticed} of {len(chosen)} mutations noticed")
    return int(unnoticed > 0)


if __name__ == "__main__":
    sys.exit(_command.run("fltrain_mutations", lambda: main(sys.argv[1:])))
