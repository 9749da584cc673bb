"""All finished studies on one self-contained page, from their own pages and numbers alone."""

from __future__ import annotations

import re
from pathlib import Path

from kktalloc._durable import write_durably

from .report import environment
from .results import FORMAT, read_json, write_json


def write_overview(folders: list[Path], out: Path) -> Path:
    """Join the studies in `folders`, each with its page drawn, into `out`/report.html and report.json.

    Raises
    ------
    ValueError
        A folder without a page or numbers of a study; names it.
    """
    if not folders:
        raise ValueError("overview needs the results folders of at least one study")
    parts, numbers = [], []
    for index, folder in enumerate(folders):
        path = folder / "report.html"
        if not path.exists():
            raise ValueError(f"{path} does not exist: run the study, or draw it with --report-only")
        found = re.search(r"<h1>(.*?)</h1>(.*)</main>", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        if found is None:
            raise ValueError(f"{path} is not a study's page")
        report = read_json(folder / "report.json")
        numbers.append(report)
        where = re.search(r'<p class="where">(.*?)</p>', found[2])
        parts.append(
            {
                "anchor": f"study-{index}",
                "title": found[1],
                "where": where[1] if where else "",
                "verdicts": [claim["verdict"] for claim in report["claims"]],
                "body": _own_ids(found[2], f"study-{index}"),
            }
        )
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "report.json", {"format": FORMAT, "studies": numbers})
    path = out / "report.html"
    write_durably(path, environment().get_template("overview.html.j2").render(parts=parts))
    return path


def _own_ids(body: str, prefix: str) -> str:
    """The page's ids and references to them, made its own."""
    body = re.sub(r'\bid="', f'id="{prefix}-', body)
    body = re.sub(r'href="#', f'href="#{prefix}-', body)
    return body.replace("url(#", f"url(#{prefix}-")
