"""Both halves of the app: devices that hold two classes of digits each, and a server that asks kktalloc.

In place of a radio, a device draws Rayleigh fading of a 4-antenna receiver around a path loss of its own. On
real devices, return what the modem measures.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from flwr.app import Context, UserConfig
from flwr.serverapp import Grid, ServerApp
from numpy.typing import NDArray

import fltrain as ft
import kktalloc as ka
from fltrain import flower
from fltrain.radio import Deadline, Radio, RadioPlanner
from kktalloc.links import Gains
from kktalloc.radio import Phones

FLOPS_PER_S = 2e8  # what a device sustains
JOULE_PER_FLOP = 1e-9
TX_POWER_W = 0.2
NOISE_PSD_W_PER_HZ = 3.98e-21  # -174 dBm/Hz
DOWNLINK_BIT_PER_S = 2e7
ANTENNAS = 4


def federation(run: UserConfig) -> tuple[ft.Split, list[ft.DeviceData], ft.TrainConfig]:
    """What server and devices agree on; a device uses only its own share."""
    data = ft.load_digits()
    seed = int(run["seed"])
    shares = ft.partition(data, int(run["devices"]), classes_per_device=2, seed=seed)
    split = ft.Split(ft.build_model("mlp", data, seed=seed), personal=("head",))
    return split, shares, ft.TrainConfig(rounds=int(run["rounds"]), evaluate_every=5, seed=seed)


def channel_gain(seed: int, device: int, round_index: int) -> float:
    """Linear |h|^2 summed over the antennas."""
    path_gain = 10 ** np.random.default_rng((seed, device)).uniform(-13.0, -11.0)
    fading = np.random.default_rng((seed, device, round_index + 1)).standard_exponential(ANTENNAS)
    return float(path_gain * fading.sum())


def allocator(run: UserConfig) -> flower.Allocate:
    """Each round's plan: pruning, bandwidth and power of the devices that reported, by the exact solution."""
    cell = ka.Cell(float(run["bandwidth-hz"]), NOISE_PSD_W_PER_HZ, float(run["deadline-s"]))
    phones = Phones(FLOPS_PER_S, JOULE_PER_FLOP, TX_POWER_W)
    at_the_deadline = partial(Deadline, deadline_s=float(run["deadline-s"]))

    def allocate(round_index: int, work: ft.Workload, gain: NDArray[np.float64]) -> ft.RoundPlan:
        # Without a report there is no service; whom the deadline cannot serve is not asked.
        radio = Radio(cell, phones, Gains(gain), DOWNLINK_BIT_PER_S)
        return RadioPlanner(radio, at_the_deadline)(round_index, work)

    return allocate


def set_up(context: Context) -> flower.Device:
    """The device that a node is, by the partition-id it was started with."""
    split, shares, config = federation(context.run_config)
    number = int(context.node_config["partition-id"])
    folder = context.node_config.get("state-dir")
    return flower.Device(
        number,
        split,
        shares[number],
        config,
        channel_gain=lambda t: channel_gain(config.seed, number, t),
        state_file=Path(str(folder)) / f"device-{number}.pt" if folder else None,
    )


def main(grid: Grid, context: Context) -> None:
    """The server."""
    run = context.run_config
    split, _, config = federation(run)
    checkpoint = None
    if run["checkpoint"]:
        checkpoint = ft.Checkpoint(str(run["checkpoint"]), every=int(run["checkpoint-every"]))
    history = flower.serve(
        grid,
        split,
        config,
        allocator(run),
        int(run["devices"]),
        checkpoint=checkpoint,
        answer_s=float(run["answer-s"]),
        gather_s=float(run["gather-s"]),
        progress=True,
    )
    print(history.to_frame()[["wall_clock_s", "accuracy", "mean_pruning_ratio", "participants"]])
    if run["output"]:
        history.to_json(f"{run['output']}.json")
        unfinished = Path(f"{run['output']}.tmp.npy")
        np.save(unfinished, history.u.numpy())
        unfinished.replace(f"{run['output']}.npy")


server = ServerApp()
server.main()(main)
client = flower.client_app(set_up)
