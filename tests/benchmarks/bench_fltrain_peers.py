"""Seconds per round against two public libraries, all three taking turns in one process.

    python tests/benchmarks/bench_fltrain_peers.py --data-dir DIR --pfllib CHECKOUT --fluke CHECKOUT

FedRep at equal steps: every device makes `head epochs` x 18 steps on the head and 18 on the body, batch 32, of
576 Fashion-MNIST images (18 whole batches; of 600, PFLlib would drop the last 24). No evaluation is timed.
Each library runs as its users run it: the peers in one process with torch's default threads, fltrain with one
worker per core. The checkouts' own requirements must be importable (modules that they import but a round does
not use may be missing: they are stubbed). Nothing of the peers is kept here. fltrain's rounds that prune 90 %, zeroed,
frozen and sparse, take their turns beside its unpruned ones; the first two make a probe step more.

Reported: median seconds per round, ratios, and how near each is to the floor: the floating-point operations of
the plain steps, counted, at the rate of the fastest matrix product at hand (torch's of 2048 x 2048 on all its
threads, or the compiled chain's of a layer that fits the cache, times the workers) in the same run.

On a machine that does other work at the same time, wall-clock ratios say little (threads that wait for each
other suffer most). ``--serial`` then compares processor seconds, everything on one thread of one process.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib.abc
import importlib.machinery
import io
import json
import os
import statistics
import sys
import tempfile
import time
import types
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

import fltrain as ft
from fltrain.chain import chain_of
from fltrain.checkpoint import RunState
from fltrain.config import UpdateKind
from fltrain.engine import InProcess, Workers
from fltrain.loop import _one_round, one_thread

BATCH, STEPS, RATE, PRUNED = 32, 18, 0.05, 0.9
CASES = [("mlp", 10, 1), ("mlp", 10, 10), ("cnn", 10, 1), ("cnn", 10, 10), ("mlp", 100, 1)]
Round = Callable[[int], None]


class Stubs(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands in for packages that the peers import at the top but a training round never calls."""

    names = frozenset({"wandb", "clearml", "seaborn", "torchvision", "opacus", "datasets"})

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name.split(".")[0] in self.names:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = types.ModuleType(spec.name)

        def missing(name: str) -> type:
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

        module.__getattr__ = missing  # type: ignore[method-assign]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def body_and_head(name: str, data: ft.Dataset) -> tuple[nn.Module, nn.Module]:
    model = ft.build_model(name, data)  # type: ignore[arg-type]
    assert isinstance(model, nn.Sequential)
    return model[:-1], model[-1]


@contextmanager
def fltrain_round(
    name: str,
    data: ft.Dataset,
    shares: Sequence[ft.DeviceData],
    head_epochs: int,
    workers: int,
    kind: UpdateKind | None = None,
) -> Iterator[Round]:
    split = ft.Split(ft.build_model(name, data), ("head",))  # type: ignore[arg-type]
    config = ft.TrainConfig(
        personal_steps=head_epochs * STEPS,
        pruned_steps=STEPS,
        batch_size=BATCH,
        pruning=kind is not None,
        update=kind or "zeroed",
        learning_rate_global=RATE,
        learning_rate_personal=RATE,
    )
    work = ft.count_workload(split, config, shares)
    everyone = np.ones(len(shares), dtype=bool)
    ratio = (0.0 if kind is None else PRUNED) * everyone
    plan = ft.RoundPlan(ratio, 1.0 * everyone, 0.0 * everyone, everyone)
    state = RunState(split.initial_global(), [split.initial_personal() for _ in shares], [])
    engine = InProcess(split, shares, config) if workers == 1 else Workers(split, shares, config, workers)

    def one(t: int) -> None:
        with one_thread():
            state.records.append(_one_round(t, engine, state, plan, work, config))

    with closing(engine):
        yield one


@contextmanager
def pfllib_round(
    checkout: Path, name: str, data: ft.Dataset, shares: Sequence[ft.DeviceData], head_epochs: int
) -> Iterator[Round]:
    sys.path.insert(0, str(checkout / "system"))
    from flcore.servers.serverrep import FedRep  # type: ignore[import-not-found]
    from flcore.trainmodel.models import BaseHeadSplit, FedAvgCNN  # type: ignore[import-not-found]

    if name == "cnn":  # its own
        base = FedAvgCNN(in_features=1, num_classes=10, dim=1024)
        head, base.fc = base.fc, nn.Identity()
    else:
        base, head = body_and_head(name, data)
    arguments = dict.fromkeys(("few_shot", "client_drop_rate", "train_slow_rate", "send_slow_rate"), 0)
    arguments |= dict.fromkeys(("random_join_ratio", "time_select", "auto_break", "dlg_eval"), False)
    arguments |= dict.fromkeys(("learning_rate_decay", "num_new_clients", "fine_tuning_epoch_new"), 0)
    arguments |= {"learning_rate_decay_gamma": 1.0, "time_threthold": 1e9, "join_ratio": 1.0, "top_cnt": 1}
    arguments |= {"dlg_gap": 1, "batch_num_per_client": 1, "eval_gap": 10**9, "save_folder_name": "items"}
    args = Namespace(
        model=BaseHeadSplit(base, head),
        head=head,
        algorithm="FedRep",
        dataset="bench",
        device="cpu",
        num_classes=10,
        num_clients=len(shares),
        global_rounds=1,
        local_epochs=1,
        plocal_epochs=head_epochs,
        batch_size=BATCH,
        local_learning_rate=RATE,
        goal="bench",
        **arguments,
    )
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        for part in ("train", "test"):
            (Path(folder) / "dataset" / "bench" / part).mkdir(parents=True)
            for k, share in enumerate(shares):
                content = {"x": getattr(share, f"{part}_x").numpy(), "y": getattr(share, f"{part}_y").numpy()}
                np.savez_compressed(
                    Path(folder) / "dataset" / "bench" / part / f"{k}.npz", data=np.array(content, object)
                )
        (Path(folder) / "system").mkdir()
        os.chdir(Path(folder) / "system")  # it reads ../dataset
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                server = FedRep(args, 0)

            def one(t: int) -> None:
                server.selected_clients = server.select_clients()
                server.send_models()
                for client in server.selected_clients:
                    client.train()
                server.receive_models()
                server.aggregate_parameters()

            yield one
        finally:
            os.chdir(before)


@contextmanager
def fluke_round(
    checkout: Path, name: str, data: ft.Dataset, shares: Sequence[ft.DeviceData], head_epochs: int
) -> Iterator[Round]:
    sys.path.insert(0, str(checkout))
    from fluke import DDict  # type: ignore[import-not-found]
    from fluke.algorithms.fedrep import FedRep  # type: ignore[import-not-found]
    from fluke.data import (  # type: ignore[import-not-found]
        DataSplitter,
        DummyDataContainer,
        FastDataLoader,
    )
    from fluke.nets import EncoderHeadNet  # type: ignore[import-not-found]

    class Net(EncoderHeadNet):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.encoder(x))  # type: ignore[no-any-return]

    def loader(x: torch.Tensor, y: torch.Tensor) -> Any:
        return FastDataLoader(x, y, num_labels=10, batch_size=BATCH, shuffle=True)

    train = [loader(s.train_x, s.train_y) for s in shares]
    test = [loader(s.test_x, s.test_y) for s in shares]
    container = DummyDataContainer(train, test, None, 10)
    hyper = DDict(
        client=DDict(
            batch_size=BATCH,
            local_epochs=head_epochs,
            tau=1,
            loss="CrossEntropyLoss",
            optimizer=DDict(name="SGD", lr=RATE),
            scheduler=DDict(name="StepLR", step_size=1, gamma=1),
            model=Net(*body_and_head(name, data)),
        ),
        server=DDict(weighted=True),
        model=body_and_head(name, data)[0],
    )
    splitter = DataSplitter(container, distribution="iid", dist_args=DDict())
    algorithm = FedRep(len(shares), splitter, hyper)
    for client in algorithm.clients:  # a model given as an object would be one for all
        client.model = copy.deepcopy(client.model)

    def one(t: int) -> None:
        server = algorithm.server
        eligible = server.get_eligible_clients(1.0)
        server.broadcast_model(eligible)
        for client in eligible:
            client.local_update(t + 1)
        server.aggregate(eligible, server.receive_client_models(eligible, state_dict=False))

    yield one


def peak_flops(clock: Callable[[], float], workers: int) -> float:
    """Floating-point operations per second of the fastest matrix product at hand, best of 20."""

    def fastest(flops: float, product: Callable[[], object]) -> float:
        seconds = []
        for _ in range(20):
            start = clock()
            product()
            seconds.append(clock() - start)
        return flops / min(seconds)

    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    peak = fastest(2 * 2048**3, lambda: a @ b)
    chain = chain_of(nn.Sequential(nn.Linear(256, 256)))
    if chain is not None:
        x = torch.randn(2048, 256)
        peak = max(peak, workers * fastest(2 * 2048 * 256**2, lambda: chain.outputs(x)))
    return peak


def plain_flops(name: str, data: ft.Dataset, shares: Sequence[ft.DeviceData], head_epochs: int) -> float:
    split = ft.Split(ft.build_model(name, data), ("head",))  # type: ignore[arg-type]
    config = ft.TrainConfig(personal_steps=head_epochs * STEPS, pruned_steps=STEPS, batch_size=BATCH)
    work = ft.count_workload(split, config, shares)
    return float(work.personal_flops.sum() + work.pruned_flops.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--pfllib", type=Path, help="checkout of github.com/TsingZ0/PFLlib")
    parser.add_argument("--fluke", type=Path, help="checkout of github.com/makgyver/fluke")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--case", type=int, nargs="*", default=range(len(CASES)), help=str(CASES))
    parser.add_argument("--serial", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    clock = time.process_time if options.serial else time.perf_counter
    if options.serial:
        torch.set_num_threads(1)
        options.workers = 1
    sys.meta_path.insert(0, Stubs())
    data = ft.load_idx(options.data_dir, name="fashion_mnist")
    rows = []
    for name, devices, head_epochs in [CASES[i] for i in options.case]:
        size = BATCH * STEPS + 24  # 576 to train on, 24 held out
        shares = ft.partition(data, devices, "iid", seed=0, samples_per_device=size, test_fraction=24 / size)
        assert all(len(s.train_y) == BATCH * STEPS for s in shares)
        with contextlib.ExitStack() as stack:
            given = (name, data, shares, head_epochs)
            runs = {"fltrain": stack.enter_context(fltrain_round(*given, options.workers))}
            for kind in get_args(UpdateKind):
                runs[kind] = stack.enter_context(fltrain_round(*given, options.workers, kind))
            if options.pfllib:
                runs["PFLlib"] = stack.enter_context(pfllib_round(options.pfllib.resolve(), *given))
            if options.fluke and devices == 10:
                runs["fluke"] = stack.enter_context(fluke_round(options.fluke.resolve(), *given))
            seconds: dict[str, list[float]] = {who: [] for who in runs}
            for t in tqdm(range(options.rounds + 1), desc=f"{name} {devices} {head_epochs}", leave=False):
                for who, one in runs.items():
                    start = clock()
                    one(t)
                    if t:  # the first round warms up
                        seconds[who].append(clock() - start)
        floor_s = plain_flops(*given) / peak_flops(clock, options.workers)
        row: dict[str, Any] = {"model": name, "devices": devices, "head_epochs": head_epochs, "floor_s": floor_s}
        for who, taken in seconds.items():
            row[who] = statistics.median(taken)
            row[f"{who}_spread_s"] = [min(taken), max(taken)]
        rows.append(row)
        print(f"{name}, {devices} devices, {head_epochs} head epochs; floor of the plain steps {floor_s:.3f} s")
        for who in runs:
            ratio = row[who] / row["fltrain"]
            print(f"  {who:8} {row[who]:8.3f} s/round  floor/time {floor_s / row[who]:5.2f}  x{ratio:5.2f}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
