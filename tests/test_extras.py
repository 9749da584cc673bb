"""An extra serves whoever has the wheel alone; what the checkout alone can use is in requirements/*.txt."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
FILES = {path.name for path in (ROOT / "requirements").iterdir()}
# Where the name to import is another than the name to install.
IMPORTED_AS = {"scikit-learn": "sklearn"}
# flwr starts it for `flwr run`, when devices are simulated; nothing imports it by name.
STARTED_BY_OTHERS = {"ray"}
TEXTS = (
    "*.md", "docs/*.md", "docs/tutorials/*.md", "paper/*.md", "examples/**/*.py", "examples/**/*.toml",
    "kktalloc/**/*.py", "fltrain/**/*.py", "validation/**/*.py", "Makefile", ".ci/run", ".github/workflows/*.yml",
)  # fmt: skip


def of_the_wheel() -> Iterator[Path]:
    """The modules that the wheel holds."""
    for pattern in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]:
        assert pattern.endswith("*")
        yield from (ROOT / pattern[:-1]).rglob("*.py")


def imported(path: Path) -> Iterator[str]:
    """Packages of others that a module imports, at its top or when it is asked to."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names = [node.module]
        yield from (name.partition(".")[0] for name in names)


def brought(requirements: list[str]) -> set[str]:
    """What these requirements install, by the name to import; an extra of this project's own stands for its list."""
    found = set()
    for text in requirements:
        required = Requirement(text)
        if required.name == PROJECT["project"]["name"]:
            found |= brought([inner for extra in required.extras for inner in EXTRAS[extra]])
        else:
            found.add(IMPORTED_AS.get(required.name, required.name))
    return found


def test_extras_bring_what_the_wheel_imports_and_no_more() -> None:
    core = brought(PROJECT["project"]["dependencies"])
    used = {name for path in of_the_wheel() for name in imported(path)}
    others = used - set(sys.stdlib_module_names) - {"kktalloc", "fltrain"} - core
    offered = set().union(*(brought(extra) for extra in EXTRAS.values()))
    assert offered - STARTED_BY_OTHERS == others


def test_what_texts_and_messages_install_is_there() -> None:
    for path in (path for pattern in TEXTS for path in ROOT.glob(pattern)):
        text = path.read_text(encoding="utf-8")
        for named in re.findall(r"(?:kktalloc|['\" ]\.)\[([a-z,]+)\]", text):
            assert set(named.split(",")) <= set(EXTRAS), (path, named)
        assert set(re.findall(r"\brequirements/(\w+\.txt)", text)) <= FILES, path


def test_the_readme_lists_extras_and_files() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", README, flags=re.MULTILINE)) == set(EXTRAS)
    assert set(re.findall(r"^\| `(\w+\.txt)` \|", README, flags=re.MULTILINE)) == FILES


def listed(name: str) -> list[str]:
    """The requirements of a file and of those that it takes in."""
    lines = [line.partition(" #")[0].strip() for line in (ROOT / "requirements" / name).read_text().splitlines()]
    found = []
    for line in lines:
        option, _, value = line.partition(" ")
        match option:
            case "-r":
                found += listed(value)
            case "-e":
                extras = value.removeprefix(".").strip("[]").split(",")
                found += [r for extra in filter(None, extras) for r in EXTRAS[extra]]
            case _ if line and not line.startswith("#"):
                found.append(line)
    return found


@pytest.mark.parametrize("name", sorted(FILES))
def test_versions_are_known(name: str) -> None:
    """Every package of a file has its exact version in constraints.txt, within the bounds of the file."""
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE))
    pins = {key.lower(): version for key, version in pins.items()}
    for required in map(Requirement, listed(name)):
        assert required.specifier.contains(pins[required.name.lower()]), required


def test_tests_have_the_peers_that_they_compare_with() -> None:
    peers = (ROOT / "tests" / "benchmarks" / "allocator_peers.py").read_text()
    needed = [*PROJECT["project"]["dependencies"], *listed("dev.txt")]
    assert set(re.findall(r"^ +import (\w+)", peers, flags=re.MULTILINE)) <= brought(needed)
