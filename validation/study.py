"""Runs a study: every (seed, scheme) pair is one training run and one results file; finished runs are kept."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import fltrain as ft

from . import results
from .config import REFERENCE, Study, Training, run_config, to_dict
from .radio import demand, draw_phones
from .schemes import SCHEMES, Scheme, unpruned_round_s

# The data sets' names on openml.org, where their training parts come first.
OPENML = {"mnist": "mnist_784", "fashion_mnist": "Fashion-MNIST"}
TRAINING_IMAGES = 60_000


def load_data(training: Training, data_dir: Path | None) -> ft.Dataset:
    """The data set that a config names, from its IDX files or else from OpenML.

    Raises ValueError or FileNotFoundError if it cannot be had.
    """
    if training.dataset == "digits":
        return ft.load_digits()
    if data_dir is not None:
        try:
            return ft.load_idx(data_dir, name=training.dataset)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"--data-dir {data_dir}: {error}") from None
    try:
        whole = ft.load_openml(OPENML[training.dataset], version=1)
    except OSError as error:
        raise ValueError(
            f"--data-dir is needed for {training.dataset}, or a network to download it: {' '.join(str(error).split())}"
        ) from None
    return replace(whole, name=training.dataset, x=whole.x[:TRAINING_IMAGES], y=whole.y[:TRAINING_IMAGES])


def pending(study: Study, out: Path) -> list[tuple[int, str]]:
    """The (seed, scheme) pairs that have no valid results in `out` yet.

    Results of the same config made by the same code are kept; those of other code are made again.
    Results of another config are an error: they are somebody's numbers, not ours to replace.
    """
    wanted, source = run_config(study), results.source_digest()
    todo = []
    for seed in study.seeds:
        for scheme in study.schemes:
            path = results.run_path(out, scheme, seed)
            if not path.exists():
                todo.append((seed, scheme))
                continue
            run = results.read_run(path)
            if odd := results.first_difference(wanted, run["config"]):
                raise ValueError(f"{path} holds another study ({odd}); choose another --out")
            if run["provenance"]["source"] != source:
                todo.append((seed, scheme))
    return todo


def run_study(study: Study, data: ft.Dataset, out: Path) -> None:
    """Train what is pending, one results file each, with a progress bar per run."""
    todo = pending(study, out)
    origin = results.provenance()
    with results.opened(out, to_dict(study)) as write:
        for number, (seed, scheme) in enumerate(todo, start=1):
            run = run_one(study, data, scheme, seed, f"run {number} of {len(todo)}: {scheme}, seed {seed}")
            write(results.run_path(out, scheme, seed), {**run, "provenance": origin})


def run_one(study: Study, data: ft.Dataset, name: str, seed: int, label: str | None = None) -> dict[str, Any]:
    """One scheme at one seed: allocate every round, train on it, and return the results as a plain dict.

    `label` names the progress bar; None shows none.
    """
    started = time.perf_counter()
    radio, training, scheme = study.radio, study.training, SCHEMES[name]
    shares = ft.partition(
        data,
        devices=training.devices,
        scheme=training.partition,
        seed=seed,
        classes_per_device=training.classes_per_device,
        samples_per_device=training.samples_per_device,
        test_fraction=training.test_fraction,
    )
    # Twice what fits at full deadlines: rounds that need no pruning are shorter.
    drawn = 2 * math.ceil(training.rounds * max(1.0, study.time_share / study.deadline_fraction))
    phones = draw_phones(radio, training.devices, drawn, seed)
    reference = demand(radio, phones, work(training, data, shares, SCHEMES[REFERENCE], seed)[2])
    unpruned = unpruned_round_s(radio, phones, reference)[: training.rounds]
    deadline_s = study.deadline_fraction * float(unpruned.mean())
    budget_s = float(unpruned.sum()) * (study.time_share if scheme.pruned else 1.0)
    split, config, workload = work(training, data, shares, scheme, seed)
    plan = scheme.allocate(radio, phones, demand(radio, phones, workload), deadline_s).within(budget_s)
    config = replace(config, rounds=len(plan.deadline_s))

    pause = 0.1 if sys.stderr.isatty() else 10.0
    with tqdm(total=config.rounds, desc=label, unit="round", mininterval=pause, disable=label is None) as bar:
        # The channel does not depend on training, so every round is allocated before the first.
        def planner(round_index: int, workload: ft.Workload) -> ft.RoundPlan:
            bar.update(round_index - bar.n)
            return ft.RoundPlan(
                pruning_ratio=plan.pruning_ratio[round_index],
                latency_s=plan.latency_s[round_index],
                energy_j=plan.energy_j[round_index],
                participates=np.ones(training.devices, dtype=bool),
            )

        history = ft.train(split, shares, config, planner, progress=False)
        bar.update(config.rounds - bar.n)
    return {
        "format": results.FORMAT,
        "study": study.name,
        "scheme": name,
        "seed": seed,
        "config": run_config(study),
        "deadline_s": deadline_s,
        "budget_s": budget_s,
        "phones": asdict(replace(phones, channel_gain=phones.channel_gain[: config.rounds])),
        "workload": asdict(workload),
        "allocation": asdict(plan),
        "history": history.records,
        "train_config": config.to_dict(),
        "global_parameters": split.n_global,
        "personal_parameters": split.n_personal,
        "held_out_samples": sum(len(share.test_y) for share in shares),
        "wall_s": time.perf_counter() - started,
    }


def work(
    training: Training, data: ft.Dataset, shares: list[ft.DeviceData], scheme: Scheme, seed: int
) -> tuple[ft.Split, ft.TrainConfig, ft.Workload]:
    """Split model, local updates and counted work of one scheme.

    A scheme without a personal part takes the personal steps as global ones: every scheme makes the same
    number of training steps per round.
    """
    split = ft.Split(
        ft.build_model(training.model, data, seed=seed), personal=training.personal if scheme.personal else ()
    )
    personal_steps = training.personal_steps if scheme.personal else 0
    config = ft.TrainConfig(
        rounds=training.rounds,
        personal_steps=personal_steps,
        probe_steps=training.probe_steps,
        pruned_steps=training.pruned_steps + training.personal_steps - personal_steps,
        batch_size=training.batch_size,
        learning_rate_global=training.learning_rate_global,
        learning_rate_personal=training.learning_rate_personal,
        pruning=scheme.pruned,
        importance=scheme.importance or training.importance,
        seed=seed,
    )
    return split, config, ft.count_workload(split, config, shares)
