"""The page of a study made of cases: what it says, as one self-contained HTML file and report.json."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kktalloc._durable import write_durably

from .cases import Finished
from .report import environment, settings
from .results import FORMAT, write_json
from .summary import Claim


@dataclass(frozen=True)
class Table:
    """A table with its caption; the first cell of a row is its heading."""

    caption: str
    head: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Page:
    """What a page shows, the answer first."""

    title: str
    where: str
    answer: str
    claims: list[Claim]
    tables: list[Table]
    figures: list[tuple[str, str]]
    """SVG and caption."""
    limits: list[str]
    """What it does not show."""
    command: str
    numbers: dict[str, Any]
    """For report.json, beside the claims."""


def write_page(out: Path, page: Page, finished: Finished) -> Path:
    """Write report.html and report.json into `out`; returns the path of the page."""
    write_json(
        out / "report.json",
        {
            "format": FORMAT,
            "title": page.title,
            "where": page.where,
            "answer": page.answer,
            "study": finished.config,
            "claims": [claim.to_dict() for claim in page.claims],
            **page.numbers,
            "provenance": finished.provenance,
        },
    )
    path = out / "report.html"
    context = {
        "page": page,
        "origin": finished.provenance,
        "mixed": finished.mixed,
        "settings": settings(finished.config),
    }
    write_durably(path, environment().get_template("study.html.j2").render(context))
    return path
