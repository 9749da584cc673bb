"""A finished study made up without training, for tests of what is drawn and computed from results files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from validation import results
from validation.config import Study, Training, run_config, to_dict

DEVICES, ROUNDS = 4, 12


def small_study(seeds: int = 2) -> Study:
    return Study(seeds=tuple(range(seeds)), training=replace(Training(), devices=DEVICES, rounds=ROUNDS))


def write_study(out: Path, study: Study, *, joint_speed: float = 0.5, joint_loss: float = 0.0) -> None:
    """Results files with learning curves that are known in closed form.

    The unpruned scheme takes 1 s a round and is exactly 0.9 accurate from its sixth round on; the joint scheme takes
    `joint_speed` seconds and is less accurate by `joint_loss`.
    """
    (out / "runs").mkdir(parents=True)
    results.write_json(out / "study.json", to_dict(study))
    for scheme in study.schemes:
        for seed in study.seeds:
            results.write_json(results.run_path(out, scheme, seed), _run(study, scheme, seed, joint_speed, joint_loss))


def _run(study: Study, scheme: str, seed: int, joint_speed: float, joint_loss: float) -> dict[str, object]:
    rng = np.random.default_rng(seed)
    shape = (ROUNDS, DEVICES)
    pruned = scheme in ("fixed_equal", "equal", "joint")
    ratio = np.where(pruned, rng.uniform(0.2, 0.7, shape), 0.0)
    if scheme.endswith("equal"):
        ratio = np.full(shape, 0.8 if scheme == "equal" else 0.5)
    round_s = {"fedavg": 1.2, "partial": 1.0, "fixed_equal": 0.7, "equal": joint_speed, "joint": joint_speed}[scheme]
    end = {"fedavg": 0.6, "partial": 0.9, "fixed_equal": 0.7, "equal": 0.8, "joint": 0.9 - joint_loss}[scheme]
    accuracy = np.where(np.arange(ROUNDS) < 5, 0.1, end)
    return {
        "format": results.FORMAT,
        "study": study.name,
        "scheme": scheme,
        "seed": seed,
        "config": run_config(study),
        "provenance": results.provenance(),
        "deadline_s": joint_speed,
        "phones": {
            "distance_m": rng.uniform(35, 250, DEVICES),
            "path_gain": np.full(DEVICES, 1e-10),
            "channel_gain": rng.uniform(1e-11, 1e-9, shape),
            "cycles_per_flop": np.full(DEVICES, 0.5),
        },
        "allocation": {
            "pruning_ratio": ratio,
            "bandwidth_hz": np.full(shape, 20e6 / DEVICES),
            "tx_power_w": np.full(shape, 0.1),
            "broadcast_s": np.full(shape, 0.1 * round_s),
            "local_s": np.full(shape, 0.2 * round_s),
            "pruned_s": np.full(shape, 0.3 * round_s),
            "upload_s": np.full(shape, 0.4 * round_s),
            "energy_j": np.full(shape, 0.01),
            "deadline_s": np.full(ROUNDS, round_s),
            "late": np.zeros(ROUNDS, dtype=bool),
            "worst_residual": 1e-12,
        },
        "history": [{"accuracy_per_device": [float(a)] * DEVICES} for a in accuracy],
        "held_out_samples": 400,
        "global_parameters": 6240,
        "personal_parameters": 330,
    }
