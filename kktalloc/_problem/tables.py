"""Files of tables, TOML or JSON: every way to be unreadable, and every key that is not known, in one line."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path
from typing import Any

# More parts of a key, or brackets in a row, than any file needs: tomllib's time grows with the square of their number.
_LONGEST = 64
_PART = r"""(?:(?<![\w-])[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
_CHAIN = re.compile(rf"(?:{_PART}[ \t]*+\.[ \t]*+){{{_LONGEST}}}")
_BRACKETS = re.compile(rf"(?:\[\s*+){{{_LONGEST + 1}}}")


def read_tables(path: str | Path, what: str) -> Any:
    """Parsed content of a file that ends in ``.toml`` or ``.json``; ``-`` is JSON on standard input.

    Raises
    ------
    ValueError
        One line that says why it cannot be read, without the file's name; `what` is what such a file is called.
    """
    try:
        if str(path) == "-":
            if sys.stdin is None:
                raise ValueError("standard input is closed")
            # The bytes: JSON is UTF-8 whatever the terminal's language; a stream put in its place may have none.
            stream = getattr(sys.stdin, "buffer", sys.stdin)
            given = stream.read()
            return _json(given.decode("utf-8-sig") if isinstance(given, bytes) else given)
        suffix = Path(path).suffix.lower()
        if suffix not in (".toml", ".json"):
            raise ValueError(f"{what} file ends in .toml or .json")
        text = Path(path).read_text(encoding="utf-8-sig")  # editors on some systems write a byte order mark
        return _toml(text) if suffix == ".toml" else _json(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except OSError as error:
        raise ValueError(f"cannot read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"not valid TOML: {error}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON: {error}") from None
    except ValueError as error:
        if "int_max_str_digits" not in str(error):
            raise
        raise ValueError("a whole number has more digits than Python reads") from None


def known(what: str, given: Collection[str], names: list[str], within: str = "") -> None:
    """Refuse a key that is not among `names`, with the nearest one as a suggestion."""
    for key in given:
        if key not in names:
            close = get_close_matches(str(key), names, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(names)}"
            raise ValueError(f"unknown {what} {within}{key:.80} ({hint})")


def table_of(tables: Any, name: str, fields: list[str], needed: Collection[str]) -> dict[str, Any]:
    """The table of this name, which has no other fields than these, and all that are needed, unless they are null."""
    if name not in tables:
        raise ValueError(f"missing table {name}")
    content = tables[name]
    if not isinstance(content, dict):
        raise ValueError(f"{name}: expected a table of fields, got {shown(content)}")
    known("field", content, fields, within=f"{name}.")
    for field in fields:
        if field in needed and content.get(field) is None:
            raise ValueError(f"missing field {name}.{field}")
    return {key: value for key, value in content.items() if value is not None}


def shown(value: Any) -> str:
    """A short repr for a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _toml(text: str) -> Any:
    if found := _CHAIN.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise ValueError(f"not valid TOML: line {line}: a key of more than {_LONGEST} parts")
    if _BRACKETS.search(text):
        raise ValueError("nested too deeply")
    return tomllib.loads(text)


class _Twice:
    """In place of a value that was given twice."""


def _json(text: str) -> Any:
    """Strict JSON: no NaN or Infinity literals, no key twice."""
    twice = False

    def constant(literal: str) -> Any:
        raise ValueError(f'not valid JSON: {literal} (write "inf", a string, for no limit)')

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal twice
        seen: dict[str, Any] = {}
        for key, value in pairs:
            twice |= key in seen
            seen[key] = _Twice() if key in seen else value
        return seen

    content = json.loads(text, parse_constant=constant, object_pairs_hook=unique)
    if twice:
        _refuse_twice(content)
    return content


def _refuse_twice(value: Any, within: str = "") -> None:
    """Say where a key stands twice; an object is read before the key that it belongs to."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, _Twice):
                raise ValueError(f"{within}{key:.80} is given twice")
            _refuse_twice(inner, f"{within}{key:.80}.")
    elif isinstance(value, list):
        for inner in value:
            _refuse_twice(inner, within)
