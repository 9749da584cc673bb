"""The allocator's folders import downwards only, in the order that docs/walk.md draws; types included."""

from __future__ import annotations

import ast
from pathlib import Path

import kktalloc

ROOT = Path(kktalloc.__file__).parent
ORDER = ("_problem", "_device", "_engine", "_certificate", "_questions")
# The certificate is independent of the engines: neither sees the other.
STRANGERS = {("_certificate", "_engine"), ("_engine", "_certificate")}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("kktalloc"):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_folders_import_downwards() -> None:
    wrong = []
    for level, folder in enumerate(ORDER):
        for path in sorted((ROOT / folder).glob("*.py")):
            for name in imports(path):
                parts = name.split(".")
                if len(parts) > 1 and parts[1] in ORDER:
                    above = ORDER.index(parts[1]) > level
                    if above or (folder, parts[1]) in STRANGERS:
                        wrong.append(f"{folder}/{path.name} imports {name}")
    assert wrong == []


def test_no_file_imports_itself_by_way_of_others() -> None:
    modules = {f"kktalloc.{p.relative_to(ROOT).with_suffix('').as_posix().replace('/', '.')}": p for f in ORDER for p in
               (ROOT / f).glob("*.py")}  # fmt: skip
    needs = {name: imports(path) & modules.keys() for name, path in modules.items()}
    done: set[str] = set()
    while ready := {name for name in needs.keys() - done if needs[name] <= done}:
        done |= ready
    assert sorted(needs.keys() - done) == []


def test_the_page_names_every_folder_and_file() -> None:
    page = (ROOT.parent / "docs" / "walk.md").read_text()
    assert [folder for folder in ORDER if f"{folder}/" not in page] == []
