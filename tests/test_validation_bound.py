"""The study `bound`: small runs of both kinds, resumed, drawn; and that it can find a violation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch.nn.functional import cross_entropy

import fltrain as ft
from validation import results
from validation.bound import hypotheses_page, page, quadratics, terms, training, walk
from validation.bound.study import CONFIG, MODULES, BoundStudy, cases
from validation.cases import load_cases, run_cases
from validation.config import to_dict

TINY = BoundStudy(
    seeds=(1,), ratios=(0.0, 0.5), local_steps=(2,), masks=("magnitude", "movement"), noise_std=(0.3,),
    training_ratios=(0.5,), training_local_steps=(2,), training_batches=(32,), rounds=2,
    kind_seeds=(1,), masked_ratios=(0.5,), sparse_ratios=(0.8,), averaging=("covered",), kind_schedules=((2, 32),),
    kind_rounds=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bound")
    run_cases(out, to_dict(TINY), cases(TINY), MODULES)
    return out


def test_no_violation_and_every_case_is_there(finished: Path) -> None:
    runs = [run for result in load_cases(finished).results.values() if isinstance(result, list) for run in result]
    assert len(runs) == 2 * 2 + 2
    for run in runs:
        assert run["violations"] == 0
        assert run["term_violations"] == []
        assert (np.array(run["bound"]) > np.array(run["measured"])).all()
        # Nothing here is idle: training moves, prunes and is noisy.
        assert run["terms"]["personal_variance"]["measured"] > 0
        assert (run["terms"]["pruning"]["measured"] > 0) == (run["ratio"] > 0)


def test_every_hypothesis_is_measured_in_each_kind_of_round(finished: Path) -> None:
    kinds = {run["update"]: run for run in load_cases(finished).results.values() if isinstance(run, dict)}
    assert set(kinds) == {"zeroed", "frozen", "sparse"}
    for run in kinds.values():
        assert run["violations"] == 0
        assert not any(pair["violations"] for pair in run["beside"].values())
        assert run["coverage"] == pytest.approx(0.2)
        assert run["with_gap_over_gradient"] > run["without_gap_over_gradient"]
    zeroed, frozen, sparse = (kinds[update]["hypotheses"] for update in ("zeroed", "frozen", "sparse"))
    # Nothing is idle, and a frozen round starts where the gradient is asked for.
    assert all(value > 0 for value in (*zeroed["error"], *sparse["error"]))
    assert frozen["error"] == [0.0] * 5
    for its in (zeroed, frozen):
        assert 0 < its["server_noise"] < its["noise_u_var"] / 5 / 0.2**2
        assert 0.2 < its["coverage_mean"] < 1
    # The lemma of unsent changes, on real ones; and what devices report is what they keep back.
    assert 0 < sparse["unsent_sq"] < sum(sparse["error"]) / 5
    assert sparse["tail_sum"] == pytest.approx(np.mean(sparse["kept_back"]), rel=0.01)
    assert 0 < sparse["selection_noise"] < sparse["upload_noise"]


def test_nothing_is_no_comparison_and_something_is() -> None:
    pairs = {"a": {"measured": 1e-33, "bound": 0.0}, "b": {"measured": 1e-9, "bound": 0.0}}
    run = {"hypotheses": {"gradient_sq": 0.1}, "beside": pairs}
    assert hypotheses_page.compared(run) == [pairs["b"]]


def test_an_interrupted_study_makes_only_what_is_missing(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "quadratics-tau2-rho0.5"
    path = finished / "runs" / f"{name}.json"
    before = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    with pytest.raises(ValueError, match=f"{name}.json is missing"):
        load_cases(finished)

    def refuse() -> None:
        raise AssertionError("a finished case was computed again")

    # The code is the same, whoever edits what meanwhile.
    monkeypatch.setattr(results, "source_digest", lambda modules: before["provenance"]["source"])
    made = {other: case if other == name else refuse for other, case in cases(TINY).items()}
    run_cases(finished, to_dict(TINY), made, MODULES)
    assert json.loads(path.read_text(encoding="utf-8"))["result"] == before["result"]
    with pytest.raises(ValueError, match=r"rounds is 2, not 3"):
        run_cases(finished, to_dict(replace(TINY, rounds=3)), made, MODULES)


def test_the_page_says_what_the_files_say(finished: Path) -> None:
    text = page.write(finished).read_text(encoding="utf-8")
    assert "the bound was violated 0 times" in text
    found = json.loads((finished / "report.json").read_text(encoding="utf-8"))
    assert [c["verdict"] for c in found["claims"][:2]] == ["holds", "holds"]
    assert [c["verdict"] for c in found["claims"][5:]] == ["holds"] * 5
    assert len(found["runs"]) == 6
    assert len(found["kinds"]) == 2 + 2 + 1


def test_a_wrong_constant_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a quarter of the curvature and no pruning error the 'bound' is none, and the study says so."""
    honest = quadratics.compare

    def lying(rounds: list[terms.Measured], *args: object, **kwargs: object) -> object:
        small = [replace(m, pruning_error_sq=0 * m.pruning_error_sq, heterogeneity=0.0) for m in rounds]
        return honest(small, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(quadratics, "compare", lying)
    run = quadratics.run(1, "movement", 0.5, 2, 0.0)
    assert {"pruning", "coverage_bias"} <= set(run["term_violations"])


def test_the_least_value_of_a_quadratic() -> None:
    problem = quadratics.Quadratics.random(np.random.default_rng(3))
    rng = np.random.default_rng(4)
    u, v = rng.normal(size=(50, quadratics.SHARED)), rng.normal(size=(50, quadratics.DEVICES, quadratics.PERSONAL))
    least = problem.least()
    assert min(problem.value(u[i : i + 1], v[i : i + 1]) for i in range(50)) > least >= 0
    # Gradient descent gets there.
    u, v = u[:1], v[:1]
    for _ in range(4000):
        slope_u, slope_v = problem.gradients(u[:, None, :].repeat(quadratics.DEVICES, axis=1), v)
        u, v = u - problem.weight @ slope_u[0], v - slope_v * problem.weight[None, :, None]
    assert problem.value(u, v) == pytest.approx(least, rel=1e-6)


def test_the_measured_run_is_what_train_does() -> None:
    data, seed = ft.load_digits(), 7
    run = training.run(data, seed, "movement", 0.5, 2, 32, 3)
    shares = ft.partition(data, 5, "shards", seed, classes_per_device=4, samples_per_device=200, test_fraction=0.2)
    split = walk.build_split(data, seed)
    config = ft.TrainConfig(
        rounds=3, personal_steps=2, pruned_steps=2, batch_size=32, learning_rate_global=run["rates"][0],
        learning_rate_personal=run["rates"][1], seed=seed, sampling="replacement",
    )  # fmt: skip
    plan = ft.RoundPlan(np.full(5, 0.5), np.ones(5), np.ones(5), np.ones(5, dtype=bool))
    history = ft.train(split, shares, config, lambda t, workload: plan, progress=False)
    losses = []
    for share, personal in zip(shares, history.personal, strict=True):
        logits = split.assemble(history.u, personal)(share.train_x)
        losses.append(float(cross_entropy(logits, share.train_y).detach()))
    assert run["value"][1] == pytest.approx(np.mean(losses), rel=1e-5)
    assert run["value"][1] < run["value"][0]


def test_the_default_is_what_the_report_claims() -> None:
    of_each_kind = 5 * 2 * (3 * 2 + 3 * 2 + 2 * 2)
    assert len(cases(CONFIG)) == 4 * 7 + 2 * 2 * (1 + 3 * 3) + of_each_kind
