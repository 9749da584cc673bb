"""Everything that was checked as one page, without anything to load: each use links to what it uses."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

from kktalloc.proof._language import Square, Use
from kktalloc.proof._latex import write_text
from kktalloc.proof._text import Chapter, certificate, declarations, reason

_STYLE = """body{font:16px/24px system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}
code{display:block;background:#f4f4f4;padding:.4rem .6rem;border-radius:4px;white-space:pre-wrap;margin:.2rem 0}
.failed{border-left:4px solid #c00;padding-left:.8rem} .failed h3:before{content:"FAILED: ";color:#c00}
h3{margin:1rem 0 .2rem;font-size:1rem} summary{cursor:pointer;color:#555}"""


def write_html(path: Path, chapters: list[Chapter]) -> None:
    """Write the page, all or nothing."""
    write_text(path, "\n".join(_page(chapters)) + "\n")


def _page(chapters: list[Chapter]) -> Iterator[str]:
    steps = [verdict for chapter in chapters for verdict in chapter.verdicts]
    good = sum(verdict.verified for verdict in steps)
    yield f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Proofs</title><style>{_STYLE}</style>'
    yield f"<h1>Proofs</h1><p>{good} of {len(steps)} steps verified.</p><ul>"
    for chapter in chapters:
        yield f'<li><a href="#{escape(chapter.key)}">{escape(chapter.theory.title)}</a></li>'
    yield "</ul>"
    for chapter in chapters:
        yield from _chapter(chapter)
    yield "</html>"


def _chapter(chapter: Chapter) -> Iterator[str]:
    key, theory, notation = chapter.key, chapter.theory, chapter.notation
    yield f'<h2 id="{escape(key)}">{escape(theory.title)}</h2>'
    if chapter.shorts:
        shorts = "\n".join(f"{short.plain}: {short.text}" for short in chapter.shorts)
        yield f"<details><summary>Short forms</summary><code>{escape(shorts)}</code></details>"
    names = "\n".join(declarations(theory.signature))
    yield f"<details><summary>Names, and what they depend on</summary><code>{escape(names)}</code></details>"
    for fact in theory.facts:
        yield f'<h3 id="{_anchor(key, fact.name)}">Given: {escape(fact.name)}</h3>{escape(fact.text)}'
        yield f"<code>{escape(notation.plain_claim(fact.claim))}</code>"
    for verdict in chapter.verdicts:
        step = verdict.step
        yield f'<section class="{"verified" if verdict.verified else "failed"}">'
        yield f'<h3 id="{_anchor(key, step.name)}">{escape(step.name)}</h3>{escape(step.text)}'
        yield f"<code>{escape(notation.plain_claim(step.claim))}</code>"
        if not verdict.verified:
            yield f"<p>Refused:</p><code>{escape(reason(verdict, notation))}</code>"
        opened = "" if verdict.verified else " open"
        yield f"<details{opened}><summary>Right side - left side is the sum of</summary><ul>"
        parts = certificate(step.uses, step.squares, notation)
        for part, text in zip(step.parts, parts, strict=True):
            yield f"<li>{_linked(key, part, escape(text))}</li>"
        if not step.uses and not step.squares:
            yield "<li>nothing: both sides expand to the same expression</li>"
        yield "</ul></details></section>"


def _linked(key: str, part: Use | Square, text: str) -> str:
    if isinstance(part, Square):
        return text
    name = escape(part.fact)
    return text.replace(f"[{name}", f'[<a href="#{_anchor(key, part.fact)}">{name}</a>', 1)


def _anchor(key: str, name: str) -> str:
    return escape(f"{key}:{name}".replace(" ", "-"))
