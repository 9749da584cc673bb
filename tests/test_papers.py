"""The catalogue of papers: own method above the proved optimum, by what docs/papers.md says; and whole ranks."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import kktalloc as ka
from kktalloc.channel import w_to_dbm

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples" / "papers"
PAGE = (ROOT / "docs" / "papers.md").read_text()
PAPERS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in ("comparison", "__main__"))


@pytest.fixture(autouse=True)
def examples_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


def row(paper: str) -> list[str]:
    found = re.search(rf"^\| \[[^\]]*\]\(\.\./examples/papers/{paper}\.py\) (.*) \|$", PAGE, flags=re.MULTILINE)
    assert found, f"no row for {paper}"
    return [cell.strip() for cell in found.group(1).strip("| ").split("|")]


@pytest.mark.parametrize("paper", PAPERS)
def test_the_table_tells_what_the_file_finds(paper: str) -> None:
    compared = import_module(paper).compare(rounds=1)
    assert compared.own >= compared.best * (1 - 1e-9)
    assert abs(compared.best - compared.bound) <= 1e-8 * compared.best
    assert compared.own_s > 0
    assert compared.best_s > 0
    _, own, best, gap, *_ = row(paper)
    assert float(own) == pytest.approx(compared.own, rel=1e-3)
    assert float(best) == pytest.approx(compared.best, rel=1e-3)
    assert float(gap.removesuffix(" %")) == pytest.approx(compared.gap_percent, abs=0.02)
    assert "own method" in str(compared)


def test_the_table_is_of_all_papers_and_their_files_say_the_same() -> None:
    source = (FOLDER / "__main__.py").read_text()
    assert sorted(re.search(r"PAPERS = \((.*)\)", source)[1].replace('"', "").split(", ")) == PAPERS  # type: ignore[index]
    for paper in PAPERS:
        _, own, best, gap, own_time, best_time, _ = row(paper)
        line = f"Found: own method {own}, optimum {best}, {gap} apart; {own_time} and {best_time}."
        assert line in " ".join((FOLDER / f"{paper}.py").read_text().split()), line


def test_both_methods_take_turns_and_the_least_time_counts() -> None:
    asked: list[str] = []
    side_by_side = import_module("comparison").side_by_side
    own, best, own_s, best_s = side_by_side(lambda: asked.append("own") or 1, lambda: asked.append("best") or 2, 3)
    assert asked == ["own", "best"] * 3
    assert (own, best) == (1, 2)
    assert min(own_s, best_s) >= 0.0


def test_every_file_says_whose_it_is_and_how_to_run_it() -> None:
    for paper in PAPERS:
        text = (FOLDER / f"{paper}.py").read_text()
        assert f"Run: python examples/papers/{paper}.py" in text
        assert "Their model" in text
        assert "Optimum" in text


def test_constants_of_the_page_are_those_of_the_files() -> None:
    common = import_module("comparison")
    phones = [common.processors(np.random.default_rng(seed), 1000) for seed in range(3)]
    cycles, fastest_hz = np.concatenate(phones, axis=1)
    least, most = cycles.min() / 8e6, cycles.max() / 8e6
    assert 50 <= least < 60 < 280 < most <= 300  # 5 MB of 10 cycles/bit, 10 MB of 30
    assert 1e9 <= fastest_hz.min() < 1.01e9 < 1.99e9 < fastest_hz.max() <= 2e9
    gain, noise = common.channels(4000, seed=0)
    loss_db = -10.0 * np.log10(gain)
    # Uniform over a disc of 250 m: the mean of log10 r is log10(250 m) less 0.5 / ln 10, but for the 35 m left out.
    assert loss_db.mean() == pytest.approx(128.1 + 37.6 * (np.log10(0.25) - 0.5 / np.log(10)), abs=1.0)
    for shown in (
        f"| {w_to_dbm(common.PEAK_W):.0f} dBm |",
        f"| {common.BAND_HZ / 1e6:g} MHz |",
        f"{common.SLOWEST_HZ / 1e9:g} GHz to a top of 1 to 2 GHz",
        f"| {common.SWITCHED_CAPACITANCE:g} J/Hz^2 |",
        f"{common.VALUES:,} weights of {common.VALUE_BITS} bits",
        f"{w_to_dbm(noise) - 5.0:.0f} dBm/Hz and a figure of 5 dB",
    ):
        assert shown in PAGE, shown


def test_what_the_page_says_beside_the_table() -> None:
    common, own = import_module("tt_prune").against_own_ratios()
    shared = import_module("phfl").with_the_band_shared()
    assert f"{own:.4f} on average instead of {common:.4f}" in PAGE
    assert f"prunes {shared:.4f} instead of" in PAGE
    assert f"and {import_module('liu2024').gap_in_the_narrowest_carrier():.2f} % in the narrowest carrier" in PAGE
    yang = import_module("yang2021")
    half = yang.in_turns(yang.problem(), 0.5) / yang.own_method(yang.problem())
    assert half * (1 + 0.0050) == pytest.approx(3.9, abs=0.05)


def test_whole_ranks_lose_at_most_one_devices_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    lora = import_module("lora_ranks")
    rng = np.random.default_rng(3)
    for _ in range(20):
        loss = np.sort(rng.uniform(0.0, 1.0, (3, 6)), axis=1)[:, ::-1]
        phones = ka.Devices(10 ** rng.uniform(-12, -10.5, 3), 0.1, 8e6, 0.02, fixed_latency_s=0.3)
        cell = ka.Cell(10 ** rng.uniform(5.3, 6.5), 4e-21, 1.0)
        hertz = lora.bandwidth_of_ranks(cell, phones, lora.RANKS)
        chosen, mean, bound = lora.whole_ranks(hertz, loss, float(cell.bandwidth_hz))
        assert hertz[np.arange(3), chosen].sum() <= cell.bandwidth_hz * (1 + 1e-12)
        tried = [
            loss[[0, 1, 2], ranks].mean()
            for ranks in np.ndindex(6, 6, 6)
            if hertz[[0, 1, 2], ranks].sum() <= cell.bandwidth_hz
        ]
        assert bound - 1e-12 <= min(tried) <= mean
        assert mean - bound <= np.max(loss[:, 0] - loss[:, -1]) / 3
