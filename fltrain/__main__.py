"""Command line: `python -m fltrain train | count | columns`.

Exit codes: 0 done; 2 what stopped it is one line on standard error; 3 a round is impossible on this radio; 130
interrupted, with what was done until then written; 141 the reader of the output left.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

import fltrain as ft
import kktalloc as ka
from fltrain.adapt import AdaptivePlanner
from fltrain.config import Broadcast
from fltrain.models import ModelName
from fltrain.partition import Scheme
from fltrain.radio import Deadline, Radio, RadioPlanner, Unpruned
from kktalloc import channel
from kktalloc._command import INTERRUPTED, Help, Parser, emit, run
from kktalloc._questions.export import plain
from kktalloc.links import Fading
from kktalloc.radio import Phones

IMPOSSIBLE = 3
_CODES = "Exit code 0: done; 2: bad input, or a stream that is closed or full; 130: interrupted."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; `argv` without the program name, None for `sys.argv`."""

    def body() -> int:
        args = _parser().parse_args(argv)
        return int({"train": _train, "count": _count, "columns": _columns}[args.command](args))

    return run("fltrain", body)


def _train(args: argparse.Namespace) -> int:
    """Train on a drawn cell; the history to standard output or a file."""
    split, shares, config = _set_up(args)
    if args.plan == "deadline" and args.deadline_s is None:
        raise ValueError("--plan deadline needs --deadline-s")
    if args.broadcast == "moved" and args.downlink_bit_per_s is None:
        raise ValueError("--broadcast moved needs --downlink-bit-per-s: without a rate a broadcast takes no time")
    chooser: Any = {
        "adaptive": AdaptivePlanner,
        "unpruned": Unpruned,
        "deadline": partial(Deadline, deadline_s=args.deadline_s),
    }[args.plan]
    rng = np.random.default_rng(args.seed)
    law = channel.MACRO_3GPP
    gain = law.gain(channel.place_in_annulus(rng, len(shares), args.radius_m, law.min_distance_m))
    cell = ka.Cell(args.bandwidth_hz, channel.noise_psd_w_per_hz(noise_figure_db=5.0), 1.0)
    phones = Phones(args.flop_per_s, args.joule_per_flop, float(channel.dbm_to_w(args.tx_power_dbm)))
    link = Fading(gain, antennas=4, seed=args.seed)
    planner = RadioPlanner(Radio(cell, phones, link, downlink=args.downlink_bit_per_s), chooser)
    code, checkpoint = 0, None if args.checkpoint is None else ft.Checkpoint(args.checkpoint)

    def enough(records: Sequence[Any]) -> bool:
        return args.target is not None and (records[-1]["accuracy"] or 0.0) >= args.target

    try:
        history = ft.train(
            split, shares, config, planner, progress=sys.stderr.isatty(), workers=args.workers, checkpoint=checkpoint,
            stop=enough,
        )  # fmt: skip
    except ka.InfeasibleError as error:
        done = getattr(error, "history", None)
        if args.out is not None and done is not None and done.records:
            done.to_json(args.out)
        emit(json.dumps({"status": "infeasible", "message": str(error)}) + "\n" if args.json else f"{error}\n")
        return IMPOSSIBLE
    except ft.Interrupted as interrupted:
        history, code = interrupted.history, INTERRUPTED
    if args.out is not None:
        history.to_json(args.out)
    if args.json:
        emit(history.to_json() + "\n")
    else:
        emit(f"{'round':>6}{'clock/s':>12}{'energy/J':>12}{'accuracy':>10}{'pruned':>8}  kind\n")
        shown = sorted({*range(0, len(history.records), max(1, len(history.records) // 10)), len(history.records) - 1})
        for record in (history.records[i] for i in shown if i >= 0):
            accuracy, pruned = (_number(record[name]) for name in ("accuracy", "mean_pruning_ratio"))
            line = f"{record['round']:6d}{record['wall_clock_s']:12.4g}{record['energy_j']:12.4g}"
            emit(f"{line}{accuracy:>10}{pruned:>8}  {record['update']}\n")
    return code


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _count(args: argparse.Namespace) -> int:
    """What one round asks of each device."""
    split, shares, config = _set_up(args)
    work = ft.count_workload(split, config, shares)
    names = ("personal_flops", "probe_flops", "dense_flops", "pruned_flops", "payload_bits", "overhead_bits",
             "broadcast_bits")  # fmt: skip
    if args.json:
        emit(json.dumps(plain({name: getattr(work, name) for name in names}), indent=1) + "\n")
        return 0
    emit(f"{split.n_global} shared parameters, {split.n_personal} personal; mean over {len(shares)} devices:\n")
    emit("".join(f"  {name:<16}{getattr(work, name).mean():12.4g}\n" for name in names))
    return 0


def _columns(args: argparse.Namespace) -> int:
    """What the columns of a history mean."""
    emit(
        json.dumps(ft.COLUMNS, indent=1) + "\n" if args.json else "".join(f"{k}: {v}\n" for k, v in ft.COLUMNS.items())
    )
    return 0


def _set_up(args: argparse.Namespace) -> tuple[ft.Split, list[ft.DeviceData], ft.TrainConfig]:
    data = ft.load_digits() if args.data == "digits" else ft.load_npz(args.data, x=args.x, y=args.y, users=args.users)
    if data.x.ndim == 3:
        data = ft.Dataset(data.name, data.x[:, None], data.y, data.classes, data.users)
    devices = args.devices
    if devices is None:
        devices = 10
        if args.partition == "by_user" and data.users is not None:
            devices = int((np.unique(data.users, return_counts=True)[1] >= 2).sum())
    shares = ft.partition(data, devices, args.partition, args.seed, test_fraction=args.test_fraction)
    split = ft.Split(ft.build_model(args.model, data, seed=args.seed), personal=("head",))
    sparse = getattr(args, "plan", "adaptive") == "adaptive"
    config = ft.TrainConfig(
        rounds=getattr(args, "rounds", 1), seed=args.seed, update="sparse" if sparse else "zeroed",
        averaging="fill" if sparse else "covered", error_feedback=sparse, broadcast=getattr(args, "broadcast", "whole"),
    )  # fmt: skip
    return split, shares, config


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m fltrain",
        description="Split-and-prune federated learning on a simulated cell.",
        epilog="python -m fltrain COMMAND --help has examples and exit codes of each.",
    )
    commands = parser.add_subparsers(required=True, metavar="command", dest="command")

    def command(name: str, text: str, description: str, *examples: str) -> argparse.ArgumentParser:
        made = commands.add_parser(
            name,
            help=text,
            description=description,
            epilog="examples:\n" + "\n".join(f"  {example}" for example in examples),
            formatter_class=Help,
        )
        made.add_argument("--json", action="store_true", help="print one JSON object")
        return made

    train = command(
        "train",
        "train on a drawn cell",
        "Train on data of yours or scikit-learn's digits, on phones in a drawn 3GPP macro cell. Exit code 0: done; "
        "2: bad input; 3: a round is impossible on this radio; 130: interrupted, what was done is written.",
        "python -m fltrain train --devices 10 --rounds 30",
        "python -m fltrain train --data windows.npz --users person --partition by_user",
        "python -m fltrain train --plan deadline --deadline-s 0.05 --json",
    )
    count = command("count", "what one round asks of each device", f"FLOPs and bits of a round. {_CODES}",
                    "python -m fltrain count --model cnn --json")  # fmt: skip
    command("columns", "what the columns of a history mean", f"The columns of a history. {_CODES}",
            "python -m fltrain columns")  # fmt: skip
    for made in (train, count):
        made.add_argument(
            "--data",
            default="digits",
            metavar="FILE.npz",
            help="arrays x, (N, features) for mlp, (N, height, width) or (N, channels, height, width), and "
            "y (N,); digits if left out",
        )
        made.add_argument("--x", default="x", help="the file's member with the inputs (x)")
        made.add_argument("--y", default="y", help="with the labels (y)")
        made.add_argument("--users", nargs="+", metavar="MEMBER", help="with who made each sample, by one or several")
        made.add_argument("--devices", type=int, metavar="K", help="how many (10; with by_user all users)")
        made.add_argument("--partition", choices=get_args(Scheme), default="shards", help="of the data (shards)")
        made.add_argument("--test-fraction", type=float, default=0.2, metavar="SHARE", help="held out, at random (0.2)")
        made.add_argument(
            "--model", choices=get_args(ModelName), default="mlp", help="the last layer stays personal (mlp)"
        )
        made.add_argument("--seed", type=int, default=0, help="of all that is drawn (0)")
    train.add_argument("--rounds", type=int, default=30, help="how many (30)")
    train.add_argument(
        "--plan", choices=("adaptive", "unpruned", "deadline"), default="adaptive", help="who plans a round (adaptive)"
    )
    train.add_argument("--deadline-s", type=float, metavar="S", help="of every round, with --plan deadline")
    train.add_argument("--target", type=float, metavar="ACCURACY", help="stop when the mean accuracy reaches it")
    train.add_argument("--bandwidth-hz", type=float, default=5e6, metavar="HZ", help="of the cell (5e6)")
    train.add_argument(
        "--downlink-bit-per-s", type=float, metavar="RATE", help="of the broadcast (it takes no time if left out)"
    )
    train.add_argument(
        "--broadcast", choices=get_args(Broadcast), default="whole", help="the model, or what moved of it (whole)"
    )
    train.add_argument("--radius-m", type=float, default=500.0, metavar="M", help="of the cell (500)")
    train.add_argument("--tx-power-dbm", type=float, default=23.0, metavar="DBM", help="peak, of each phone (23)")
    train.add_argument("--flop-per-s", type=float, default=1e9, metavar="N", help="of each phone (1e9)")
    train.add_argument("--joule-per-flop", type=float, default=1e-9, metavar="J", help="of each phone (1e-9)")
    train.add_argument("--workers", type=int, default=1, help="processes (1)")
    train.add_argument("--checkpoint", type=Path, metavar="FILE", help="save there, and go on from there")
    train.add_argument("--out", type=Path, metavar="FILE", help="write the history there, all or nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
