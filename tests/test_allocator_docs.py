"""The snippets of docs/allocator.md run, in order, in one namespace."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import kktalloc as ka

PAGE = Path(__file__).parents[1] / "docs" / "allocator.md"


def test_snippets_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PAGE.parents[1])
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(snippets) >= 11
    namespace: dict[str, Any] = {}
    for snippet in snippets:
        exec(compile(snippet, str(PAGE), "exec"), namespace)


def test_every_public_function_is_on_the_page() -> None:
    page = PAGE.read_text()
    functions = [n for n in ka.__all__ if n.islower()]
    assert [n for n in functions if f"ka.{n}" not in page] == []
