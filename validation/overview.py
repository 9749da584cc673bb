"""All finished studies on one self-contained page: from their folders, or from their numbers alone. Runs nothing."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from kktalloc._durable import write_durably

from .figures import TITLES as FIGURE_TITLES
from .report import environment
from .results import FORMAT, read_json, write_json
from .summary import Claim, Spread

_TITLES = {
    "schemes": "Pruning and radio, allocated together",
    "latency": "Time to the unpruned accuracy",
    "ablation": "Each part left out",
    "tradeoff": "The order of settings, predicted and trained",
    "map": "Where the saving holds",
    "scale": "Cells of any size",
    "harder": "On measured drives",
}
"""Of studies whose numbers carry no title."""
COMMITTED = Path(__file__).resolve().parent.parent / "docs" / "results"
"""Numbers of the studies that docs/report.md reports."""


def write_overview(paths: list[Path], out: Path) -> Path:
    """Join studies into `out`/report.html and report.json.

    A path is a study's folder with its page drawn, or a ``report.json`` under any name, of which verdicts and claims
    are drawn. Without paths: all in `COMMITTED`.

    Raises
    ------
    ValueError
        A path without a page or numbers of a study; names it.
    """
    paths = paths or sorted(COMMITTED.glob("*.json"))
    if not paths:
        raise ValueError(f"{COMMITTED} holds no results: overview needs the folders of finished studies")
    parts, numbers = [], []
    for index, path in enumerate(paths):
        anchor = f"study-{index}"
        report, part = _from_numbers(path) if path.is_file() else _from_folder(path, anchor)
        numbers.append(report)
        verdicts = [claim["verdict"] for claim in report["claims"]]
        parts.append({"anchor": anchor, "verdicts": verdicts, **part})
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "report.json", {"format": FORMAT, "studies": numbers})
    page = out / "report.html"
    write_durably(page, environment().get_template("overview.html.j2").render(parts=parts))
    return page


def _from_folder(folder: Path, anchor: str) -> tuple[dict[str, Any], dict[str, str]]:
    """A study's numbers, and its page with ids of its own."""
    path = folder / "report.html"
    if not path.exists():
        raise ValueError(f"{path} does not exist: run the study, or draw it with --report-only")
    found = re.search(r"<h1>(.*?)</h1>(.*)</main>", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    if found is None:
        raise ValueError(f"{path} is not a study's page")
    where = re.search(r'<p class="where">(.*?)</p>', found[2])
    part = {"title": found[1], "where": where[1] if where else "", "body": _own_ids(found[2], anchor)}
    return read_json(folder / "report.json"), part


def _from_numbers(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """A study's numbers, and its verdicts and claims as a page."""
    report = read_json(path)
    if not isinstance(report, dict) or not {"claims", "study", "provenance"} <= report.keys():
        raise ValueError(f"{path} holds no numbers of a study")
    study = report["study"]
    dataset = study.get("dataset") or study.get("training", {}).get("dataset", "")
    origin = report["provenance"].get("git_commit") or "unknown"
    body = environment().get_template("numbers.html.j2").render(
        claims=[_claim(claim) for claim in report["claims"]], answer=report.get("answer", ""), name=path.name,
        commit=origin[:12],
    )  # fmt: skip
    title = report.get("title") or _TITLES.get(study["name"], f"Study {study['name']}")
    if not report.get("title") and dataset:
        title = f"{title}, {FIGURE_TITLES.get(dataset, dataset)}"
    return report, {"title": title, "where": report.get("where", f"{study['name']}, from {path.name}"), "body": body}


def _claim(stored: dict[str, Any]) -> Claim:
    measured = Spread(tuple(stored["measured"]["per_seed"]))
    return Claim(
        stored["statement"], measured, _digits(measured), stored["unit"], stored["verdict"], stored["note"],
        id=stored["id"],
    )  # fmt: skip


def _digits(measured: Spread) -> int | None:
    """Decimals that show three figures of the largest value; None for a power of ten."""
    largest = max((abs(float(value)) for value in measured.values), default=0.0)
    if 0.0 < largest < 1e-4:
        return None
    return min(3, max(0, 2 - math.floor(math.log10(largest)))) if largest else 0


def _own_ids(body: str, prefix: str) -> str:
    """The page's ids and references to them, made its own."""
    body = re.sub(r'\bid="', f'id="{prefix}-', body)
    body = re.sub(r'href="#', f'href="#{prefix}-', body)
    return body.replace("url(#", f"url(#{prefix}-")
