"""All finished studies on one self-contained page: from their folders, or from their numbers alone. Runs nothing."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import escape

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
_ORDER = (
    "adaptive", "baselines", "difference", "kinds", "ordering", "tradeoff", "drives", "bound", "scale", "tuning",
    "baselines-tuning", "drives-tuning", "latency", "schemes", "ablation", "map", "harder",
)  # fmt: skip
"""Studies as the page has them: what is claimed now, how it was tuned, and the schemes that were allocated first."""
_DATASETS = ("digits", "mnist", "fashion_mnist", "writers", "subjects", "cifar10")
_SHARES = (("joint-fill-chosen", "mean over all"), ("joint-covered-chosen", "covered means"))
"""Families of entries of `adaptive` with which the page begins, and how their updates are averaged."""
COMMITTED = Path(__file__).resolve().parent.parent / "docs" / "results"
"""Numbers of the studies that docs/report.md reports."""
Studies = list[tuple[dict[str, Any], dict[str, Any]]]
"""Numbers and part of the page of each."""


def write_overview(paths: list[Path], out: Path) -> Path:
    """Join studies into `out`/report.html and report.json, three verdicts first, then study by study as in `_ORDER`.

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
    found: Studies = []
    for index, path in enumerate(paths):
        anchor = f"study-{index}"
        report, part = _from_numbers(path) if path.is_file() else _from_folder(path, anchor)
        verdicts = [claim["verdict"] for claim in report["claims"]]
        found.append((report, {"anchor": anchor, "verdicts": verdicts, **part}))
    found.sort(key=lambda pair: _place(pair[0]["study"]))
    numbers, parts = [report for report, _ in found], [part for _, part in found]
    cards = [*_shares(found), *_ahead(found)]
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "report.json", {"format": FORMAT, "studies": numbers})
    page = out / "report.html"
    write_durably(page, environment().get_template("overview.html.j2").render(parts=parts, cards=cards))
    return page


def _place(study: dict[str, Any]) -> tuple[int, bool, int]:
    """Where a study comes on the page: by its kind, the perceptron before the CNN, by data set."""
    name, dataset = study["name"], _dataset(study)
    return (
        _ORDER.index(name) if name in _ORDER else len(_ORDER),
        study.get("model", "mlp") != "mlp",
        _DATASETS.index(dataset) if dataset in _DATASETS else len(_DATASETS),
    )


def _dataset(study: dict[str, Any]) -> str:
    own = study.get("training") or study.get("comparison", {}).get("training", {})
    return str(study.get("dataset") or own.get("dataset", ""))


def _shares(found: Studies) -> list[dict[str, Any]]:
    """Share of tuned unpruned training's time that planned rounds take on digits to within one point of its accuracy.

    One point rather than half of one: of that some seed falls short for good, so that there is no mean.
    """
    cards = []
    for report, part in found:
        study = report["study"]
        if (study["name"], study.get("dataset"), study.get("model")) != ("adaptive", "digits", "mlp"):
            continue
        for family, averaging in _SHARES:
            name = next((name for name in report.get("entries", {}) if name.startswith(f"{family}-rate")), None)
            claim = next((claim for claim in report["claims"] if claim["id"] == f"{name}-tuned-wide"), None)
            if name is None or claim is None:
                continue
            half = report["entries"][name]["tuned"]
            cards.append({
                "anchor": part["anchor"],
                "measured": Spread.from_dict(claim["measured"]), "digits": 0, "unit": "%",
                "sentence": f"Planned rounds, {averaging}, take this share of tuned unpruned training's time to within "
                "one point of its accuracy on digits.",
                "note": f"To half a point, never on {half.count(None)} of {len(half)} seeds" if None in half else "",
                "statement": claim["statement"], "verdict": claim["verdict"],
            })  # fmt: skip
        break
    return cards


def _ahead(found: Studies) -> list[dict[str, Any]]:
    """How far own pruning ratios are ahead of a common one where phones are most unlike."""
    for report, part in found:
        for claim in report["claims"]:
            kept = report["study"].get("error_feedback", False)
            if not kept and (report["study"]["name"], claim["id"]) == ("difference", "upper-half"):
                return [{
                    "anchor": part["anchor"],
                    "measured": Spread.from_dict(claim["measured"]), "digits": 2, "unit": "points",
                    "sentence": "Own pruning ratios are so far ahead of the common one that the same planner chooses, "
                    "in accuracy averaged over time, where it expects most of them.",
                    "note": "Whole broadcasts; what is not sent is forgotten",
                    "statement": claim["statement"], "verdict": claim["verdict"],
                }]  # fmt: skip
    return []


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
    study, origin = report["study"], report["provenance"]
    where = report.get("where") or _where(study)
    body = environment().get_template("numbers.html.j2").render(
        claims=[_claim(claim) for claim in report["claims"]], answer=report.get("answer", ""), name=path.name,
        where=where, study=_command(study), chosen=report.get("chosen", {}),
        commit=(origin.get("git_commit") or "unknown")[:12], modified=origin.get("git_modified", False),
    )  # fmt: skip
    title = report.get("title") or _TITLES.get(study["name"], f"Study {study['name']}")
    return report, {"title": escape(title), "where": escape(where), "body": body}


def _command(study: dict[str, Any]) -> str:
    """The name that the command line has for a study."""
    kept = study["name"] == "difference" and study.get("error_feedback", False)
    return f"{study['name']}-kept" if kept else str(study["name"])


def _where(study: dict[str, Any]) -> str:
    """Data set and seeds, of a study whose numbers do not say it in words."""
    dataset = _dataset(study)
    seeds = study.get("seeds", [])
    return ", ".join([
        *([FIGURE_TITLES.get(dataset, dataset)] if dataset else []),
        *([f"seeds {', '.join(map(str, seeds))}"] if seeds else []),
    ])  # fmt: skip


def _claim(stored: dict[str, Any]) -> Claim:
    measured = Spread.from_dict(stored["measured"])
    return Claim(
        stored["statement"], measured, _digits(measured), stored["unit"], stored["verdict"], stored["note"],
        id=stored["id"],
    )  # fmt: skip


def _digits(measured: Spread) -> int | None:
    """Decimals that show three figures of the largest value; none for counts, None for a power of ten."""
    if np.all(measured.values == np.round(measured.values)):
        return 0
    largest = max((abs(float(value)) for value in measured.values), default=0.0)
    if 0.0 < largest < 1e-4:
        return None
    return min(3, max(0, 2 - math.floor(math.log10(largest)))) if largest else 0


def _own_ids(body: str, prefix: str) -> str:
    """The page's ids and references to them, made its own."""
    body = re.sub(r'\bid="', f'id="{prefix}-', body)
    body = re.sub(r'href="#', f'href="#{prefix}-', body)
    return body.replace("url(#", f"url(#{prefix}-")
