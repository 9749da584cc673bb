"""A page for every public name: of each module below, all that its `__all__` lists, as its docstring says."""

from __future__ import annotations

import inspect
import re
import sys
from enum import Enum
from importlib import import_module
from pathlib import Path
from types import ModuleType

from sphinx.application import Sphinx
from sphinx.ext.autodoc.mock import mock
from sphinx.pycode import ModuleAnalyzer

MODULES = (
    "kktalloc", "kktalloc.channel", "kktalloc.radio", "kktalloc.traces", "kktalloc.links", "kktalloc.plot",
    "kktalloc.bound", "kktalloc.plan", "kktalloc.proof", "kktalloc.proof.ready", "fltrain", "fltrain.adapt",
    "fltrain.radio", "fltrain.flower",
)  # fmt: skip
FOLDER = "reference"
OF_OTHERS = "Exception, object, int, str, float, dict, Enum, IntEnum, Expr, Symbol"
"""Classes whose own members are described where they come from."""


def pages() -> dict[str, str]:
    """Text of every page by its name."""
    found: dict[str, str] = {}
    described: dict[int, str] = {}
    for name in MODULES:
        module = import_module(name)
        public = sorted(module.__all__, key=lambda known: (known.lower(), known))
        for known in public:
            found[f"{name}.{known}"] = _page(name, known, getattr(module, known), described)
        # A module and its function may share a name (`kktalloc.plan.plan` does not clash, `index` would).
        found[f"{name}-module"] = _listing(name, module, public)
    modules = "\n".join(f"{name} <{name}-module>" for name in MODULES)
    found["index"] = (
        "# Reference\n\nEvery public name has a page: what it takes and gives, shapes, units, errors, and where it\n"
        f"comes from. What begins with an underscore, and what no page names, may change without notice.\n\n"
        f"```{{toctree}}\n:maxdepth: 1\n\n{modules}\n```\n"
    )
    return found


def _page(name: str, known: str, value: object, described: dict[int, str]) -> str:
    """The page of one name; if an earlier page describes the same thing, a link to it."""
    if inspect.ismodule(value):
        return f"# {known}\n\nA module: see [{value.__name__}]({value.__name__}-module.md).\n"
    before = described.setdefault(id(value), f"{name}.{known}")
    if before != f"{name}.{known}":
        return f"# {known}\n\n`{name}.{known}` is [{before}]({before}.md).\n"
    options = ""
    if inspect.isclass(value):
        directive = "autoclass"
        options += f"   :members:\n   :inherited-members: {OF_OTHERS}\n"
        if issubclass(value, Enum):
            options += "\n" + "".join(f"   - ``{member.name}``: {_meaning(member)}\n" for member in value)
    elif inspect.isroutine(value):
        directive = "autofunction"
    else:
        directive = "py:data"
        said = _said_of_data(name, known, value)
        options += "\n" + "".join(f"   {line}\n" for line in said.splitlines())
    return f"# {known}\n\n```{{eval-rst}}\n.. {directive}:: {name}.{known}\n{options}```\n"


def _meaning(member: Enum) -> str:
    """A regime's sentence, the advice that is a status's value, or a plain value."""
    return getattr(member, "explanation", None) or f"{member.value}"


def _said_of_data(name: str, known: str, value: object) -> str:
    """The text below a constant, in whichever module of the package it stands."""
    for other, module in sorted(sys.modules.items()):
        if other.partition(".")[0] == name.partition(".")[0] and getattr(module, known, None) is value:
            found = ModuleAnalyzer.for_module(other).find_attr_docs().get(("", known))
            if found:
                keys = [f"``{key}``\n   {said}" for key, said in value.items()] if isinstance(value, dict) else []
                return "\n".join([*found, *keys])
    raise ValueError(f"{name}.{known} has no text below it that says what it is")


def _listing(name: str, module: ModuleType, public: list[str]) -> str:
    """The page of a module: what it is for, and each name with the first sentence of what it says."""
    said = inspect.getdoc(module) or ""
    rows = "\n".join(f"{known} <{name}.{known}>" for known in public)
    table = "\n".join(
        f"| [{known}]({name}.{known}.md) | {_first(name, known, getattr(module, known))} |" for known in public
    )
    return (
        f"# {name}\n\n```{{eval-rst}}\n{said}\n```\n\n| name | |\n|---|---|\n{table}\n\n"
        f"```{{toctree}}\n:hidden:\n\n{rows}\n```\n"
    )


def _first(name: str, known: str, value: object) -> str:
    """The first sentence of a docstring, as Markdown."""
    if inspect.ismodule(value) or inspect.isclass(value) or inspect.isroutine(value):
        said = inspect.getdoc(value) or ""
    else:
        said = _said_of_data(name, known, value)
    sentence = " ".join(re.split(r"(?<=[.;])\s", said.partition("\n\n")[0].replace("\n", " "))[0].split())
    plain = re.sub(r"`{1,2}([^`]+)`{1,2}", r"`\1`", sentence.rstrip(".;"))
    return plain.replace("|", "\\|")


def _write(app: Sphinx) -> None:
    folder = Path(app.srcdir) / FOLDER
    with mock(app.config.autodoc_mock_imports):
        wanted = {f"{page}.md": text for page, text in pages().items()}
    if folder.exists():
        for stale in folder.iterdir():
            if stale.name not in wanted:
                stale.unlink()
    folder.mkdir(exist_ok=True)
    for file, text in wanted.items():
        path = folder / file
        if not path.exists() or path.read_text() != text:  # an unchanged page is not read again
            path.write_text(text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("builder-inited", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
