"""docs/report.md as a whole: its results have claims with ids, personal steps as it says, links that lead somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from report_docs import DOCS, results_of, says

from validation.config import Training


def test_more_personal_steps_than_pruned_ones_except_where_the_page_says_so() -> None:
    for path in (DOCS / "results").glob("*.json"):
        study = results_of(path.stem)["study"]
        of = study.get("cell", study)  # the map of kinds and the drives hold another study's settings
        taken = {**of.get("comparison", of).get("training", {}), **of}
        if "personal_steps" not in taken:
            assert path.stem in ("bound", "scale")  # no training of a comparison
            continue
        old = study["name"] in ("schemes", "latency", "ablation", "map", "harder")
        more = taken["personal_steps"] - taken.get("pruned_steps", Training().pruned_steps)
        assert more == 0 if old else more > 0, path.stem
    says(
        "`schemes`, `latency`, `ablation`, `map` and `harder`, reproduce the scheme as it was published: they take five"
    )


@pytest.mark.parametrize("path", sorted((DOCS / "results").rglob("*.json")), ids=lambda path: path.stem)
def test_every_claim_has_an_id_of_its_own(path: Path) -> None:
    ids = [claim["id"] for claim in json.loads(path.read_text(encoding="utf-8"))["claims"]]
    assert all(ids)
    assert len(set(ids)) == len(ids)


def test_links_lead_somewhere() -> None:
    text = (DOCS / "report.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#:]+)\)", text)
    assert targets
    for target in targets:
        assert (DOCS / target).exists(), target
