"""The documentation site: every public name has a page of its own, and no page is left out of the site."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from sphinx.ext.autodoc.mock import mock

DOCS = Path(__file__).parents[1] / "docs"
ROOT = DOCS.parent


@pytest.fixture(scope="module")
def reference() -> Iterator[ModuleType]:
    sys.path.insert(0, str(DOCS / "_ext"))
    yield importlib.import_module("reference")
    sys.path.remove(str(DOCS / "_ext"))


def public_modules() -> list[str]:
    """Every module with an `__all__` that a user may import: no part of its name begins with an underscore."""
    found = []
    for package in ("kktalloc", "fltrain"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            hidden = any(part.startswith("_") for part in name.split("."))
            if not hidden and (name == "kktalloc" or re.search(r"^__all__ = ", path.read_text(), flags=re.MULTILINE)):
                found.append(name)
    return found


def test_every_public_name_has_a_page(reference: ModuleType) -> None:
    assert sorted(reference.MODULES) == sorted(public_modules())
    mocked = [] if importlib.util.find_spec("flwr") else ["flwr", "ray"]
    with mock(mocked):
        pages = reference.pages()
        for name in reference.MODULES:
            for known in importlib.import_module(name).__all__:
                page = pages[f"{name}.{known}"]
                assert f"{name}.{known}" in page, name
                assert f"\n{known} <{name}.{known}>\n" in pages[f"{name}-module"] + "\n"
    for made in [name for name in sys.modules if name.startswith(("fltrain.flower", "fltrain._flower"))]:
        if mocked:  # made of stand-ins
            del sys.modules[made]


def test_every_page_is_in_the_contents() -> None:
    listed = {
        ("tutorials/" if page.parent.name == "tutorials" else "") + line.split("<")[-1].strip("> ").removesuffix(".md")
        for page in DOCS.rglob("*.md")
        for block in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(), flags=re.DOTALL)
        for line in block.splitlines()
    }
    pages = {p.relative_to(DOCS).with_suffix("").as_posix() for p in DOCS.glob("*.md")} - {"index"}
    pages |= {f"tutorials/{p.stem}" for p in DOCS.glob("tutorials/*.md")}
    assert sorted(pages - listed) == []
