"""Command line: ``python -m validation [STUDY] [options]``; runs or resumes a study, then draws its report.

``python -m validation explore [FILE]`` serves the explorer instead.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from kktalloc._command import Parser, emit

from .config import DATASETS, STUDIES, Study, digest, fingerprint, seeds, to_dict

# Studies that are no comparison of schemes: the module of their config and cases, and that of their page.
CASE_STUDIES = {
    name: (f"validation.{name}.study", f"validation.{name}.page") for name in ("bound", "tradeoff", "scale", "map")
}
NATURAL = ("writers", "subjects")
"""Natural clients, of the planner's study alone: scikit-learn's digits, each device's in a synthetic hand of its own,
and exercises that ten subjects did with a smartwatch."""


def parser() -> argparse.ArgumentParser:
    """Every option of the command line."""
    options = Parser(prog="python -m validation", description="Run or resume a study, then draw its report.")
    options.add_argument(
        "study",
        nargs="?",
        default="schemes",
        choices=[*RUN, "explore"],
        help="named study (schemes)",
    )
    options.add_argument(
        "paths",
        nargs="*",
        type=Path,
        metavar="PATH",
        help="overview: folders or report.json of finished studies to join (all of docs/results); "
        "explore: a scenario file (examples/ten_devices.toml)",
    )
    options.add_argument(
        "--dataset",
        choices=[*DATASETS, *NATURAL],
        help="digits comes with scikit-learn; the others from --data-dir or OpenML; "
        "adaptive, tuning: writers and subjects, too, which come with packages",
    )
    options.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="folder with IDX files, or with <dataset>/raw; harder, drives and its tuning: with cifar10 and "
        "radio_traces",
    )
    options.add_argument("--model", choices=["mlp", "cnn"], help="adaptive, tuning: the network (mlp)")
    options.add_argument("--rounds", type=int, metavar="N", help="rounds of the unpruned reference")
    options.add_argument("--seeds", type=int, metavar="N", help="runs per scheme, the study's own seeds first")
    options.add_argument(
        "--deadline-fraction", type=float, metavar="X", help="deadline over the mean unpruned round (0.4)"
    )
    options.add_argument("--out", type=Path, metavar="DIR", help="results folder; a study in it is resumed")
    options.add_argument("--report-only", action="store_true", help="draw the finished study in --out, train nothing")
    options.add_argument("--port", type=int, metavar="N", help="explore: port on 127.0.0.1 (5006), 0 for a free one")
    options.add_argument(
        "--no-browser", action="store_const", const=True, help="explore: print the address, open no browser"
    )
    return options


def _refuse(arguments: argparse.Namespace, *options: str, because: str) -> None:
    """ValueError for the first of these options that was given: it would change nothing."""
    for option in options:
        if (value := getattr(arguments, option)) is not None:
            given = f"--{option.replace('_', '-')}" + ("" if value is True else f" {value}")
            raise ValueError(f"{given} does not apply to {because}")


def _own_seeds(config: Any, count: int | None) -> tuple[int, ...]:
    """The first `count` seeds of a study, and those that follow its last where it has fewer; None: its own."""
    own: tuple[int, ...] = config.seeds
    return own if count is None else (*own, *seeds(count, own[-1] + 1))[:count]


def _folder(arguments: argparse.Namespace) -> Path | None:
    """The folder of data sets that was given, if any, or ValueError before anything is made."""
    folder: Path | None = arguments.data_dir
    if folder is not None and not folder.is_dir():
        raise ValueError(f"--data-dir {folder}: there is no such folder")
    return folder


def named_study(arguments: argparse.Namespace) -> Study:
    """The named study with the command line's changes."""
    study = STUDIES[arguments.study]
    if arguments.dataset in NATURAL:
        _refuse(arguments, "dataset", because=arguments.study)
    dataset = arguments.dataset or study.training.dataset
    if dataset == "digits":
        _refuse(arguments, "data_dir", because="the digits dataset, which comes with scikit-learn")
    changed = {"dataset": dataset, **DATASETS[dataset]}
    if arguments.rounds is not None:
        changed["rounds"] = arguments.rounds
    top: dict[str, Any] = {"seeds": _own_seeds(study, arguments.seeds)}
    if arguments.deadline_fraction is not None:
        top["deadline_fraction"] = arguments.deadline_fraction
    return replace(study, training=replace(study.training, **changed), **top)


def _case_study(arguments: argparse.Namespace) -> Path:
    """Run what is pending of a study made of cases and draw its page; returns the page's path."""
    _refuse(arguments, "dataset", "data_dir", "rounds", "deadline_fraction", because=arguments.study)
    study, page = (importlib.import_module(name) for name in CASE_STUDIES[arguments.study])
    config = study.CONFIG
    config = replace(config, seeds=_own_seeds(config, arguments.seeds))
    arguments.out = arguments.out or Path("results") / f"{config.name}-{fingerprint(to_dict(config))}"
    if not arguments.report_only:
        from .cases import run_cases

        run_cases(arguments.out, to_dict(config), study.cases(config), study.MODULES)
    path: Path = page.write(arguments.out)
    return path


def _ordering(arguments: argparse.Namespace) -> Path:
    """Run what is pending of the study of what orders allocations, and draw its page; returns the page's path."""
    _refuse(arguments, "rounds", "deadline_fraction", because="ordering")
    from .cases import run_cases
    from .ordering import page, study

    dataset = arguments.dataset or "digits"
    if dataset in NATURAL:
        _refuse(arguments, "dataset", because="ordering")
    if dataset == "digits":
        _refuse(arguments, "data_dir", because="the digits dataset, which comes with scikit-learn")
    config = study.on(dataset)
    config = replace(config, seeds=_own_seeds(config, arguments.seeds))
    arguments.out = arguments.out or Path("results") / f"{config.name}-{dataset}-{fingerprint(to_dict(config))}"
    if not arguments.report_only:
        from .study import load_data

        folder = _folder(arguments)
        there = partial(load_data, config.training, folder)
        run_cases(arguments.out, to_dict(config), study.cases(config, folder), study.MODULES, there)
    return page.write(arguments.out)


def _adaptive(arguments: argparse.Namespace) -> Path:
    """Train what is pending of the planner's study, or of its tuning, and draw its page; returns the page's path."""
    _refuse(arguments, "deadline_fraction", because=arguments.study)
    from .adaptive import page, study, tuned
    from .cases import run_cases

    if arguments.study.startswith("baselines"):
        _refuse(arguments, "dataset", "model", because=f"{arguments.study}, which is of the perceptron on digits")
        config = tuned.baselines() if arguments.study == "baselines" else tuned.baselines_tuning()
    else:
        dataset: Any = arguments.dataset or "digits"
        model: Any = arguments.model or "mlp"
        if model == "cnn" and dataset not in tuned.CNN:
            _refuse(arguments, "model", because=f"{dataset}: choose from {', '.join(tuned.CNN)}")
        config = (tuned.reported if arguments.study == "adaptive" else tuned.tuning)(dataset, model)
    if arguments.rounds is not None:
        if arguments.rounds < 1:
            raise ValueError(f"--rounds must be at least 1, got {arguments.rounds}")
        config = replace(config, rounds=arguments.rounds)
    config = replace(config, seeds=_own_seeds(config, arguments.seeds))
    if (source := study.loaded(config.dataset)) in study.PACKAGES:
        _refuse(arguments, "data_dir", because=f"the {source} dataset, which comes with {study.PACKAGES[source]}")
    of = config.dataset if config.model == "mlp" else f"{config.dataset}-{config.model}"
    default = f"{config.name}-{of}-{fingerprint(study.run_config(config))}"
    arguments.out = arguments.out or Path("results") / default
    if not arguments.report_only:
        folder = _folder(arguments)
        there = partial(study.samples, source, folder)
        run_cases(arguments.out, study.run_config(config), study.cases(config, folder), study.MODULES, there)
    return page.write(arguments.out)


def _unlike(arguments: argparse.Namespace) -> Path:
    """Train what is pending of the ladder of unlike phones, or of the map of kinds; returns the page's path."""
    _refuse(arguments, "dataset", "rounds", "deadline_fraction", because=arguments.study)
    package, _, kept = arguments.study.partition("-")
    study, page = (importlib.import_module(f"validation.{package}.{module}") for module in ("study", "page"))
    config = study.KEPT if kept else study.CONFIG
    if package == "difference":
        _refuse(arguments, "data_dir", because="the digits dataset, which comes with scikit-learn")
    config = replace(config, seeds=_own_seeds(config, arguments.seeds))
    arguments.out = arguments.out or Path("results") / f"{config.name}-{fingerprint(study.run_config(config))}"
    if not arguments.report_only:
        from .adaptive.study import samples
        from .cases import run_cases

        folder = _folder(arguments)
        there = partial(samples, config.cell.dataset, folder) if package == "kinds" else None
        run_cases(arguments.out, study.run_config(config), study.cases(config, folder), study.MODULES, there)
    path: Path = page.write(arguments.out)
    return path


def _harder(arguments: argparse.Namespace) -> Path:
    """Drive and train what is pending of the study on measured drives and draw its page; returns the page's path."""
    _refuse(arguments, "dataset", because="harder")
    from .harder import page, study

    asked = {"rounds": arguments.rounds, "deadline_fraction": arguments.deadline_fraction}
    changed: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    config = replace(study.CONFIG, seeds=_own_seeds(study.CONFIG, arguments.seeds), **changed)
    arguments.out = arguments.out or Path("results") / f"{config.name}-{fingerprint(study.run_config(config))}"
    if not arguments.report_only:
        study.run(config, _measured(arguments, config.name), arguments.out)
    return page.write(arguments.out)


def _drives(arguments: argparse.Namespace) -> Path:
    """Train what is pending of planned rounds on measured drives, or of their tuning; returns the page's path."""
    _refuse(arguments, "dataset", "rounds", "deadline_fraction", because=arguments.study)
    from .drives import page, study, tuned
    from .harder.study import load

    config = tuned.CONFIG if arguments.study == "drives" else tuned.TUNING
    config = replace(config, seeds=_own_seeds(config, arguments.seeds))
    arguments.out = arguments.out or Path("results") / f"{config.name}-{fingerprint(study.run_config(config))}"
    if not arguments.report_only:
        from .cases import run_cases

        folder = _measured(arguments, config.name)
        there = partial(load, config.cell, folder)
        run_cases(arguments.out, study.run_config(config), study.cases(config, folder), study.MODULES, there)
    return page.write(arguments.out)


def _measured(arguments: argparse.Namespace, study: str) -> Path:
    """The folder of images and drives, or ValueError before anything is made."""
    needed, folder = ("cifar10", "radio_traces"), _folder(arguments)
    if folder is None:
        raise ValueError(f"--data-dir is needed for {study}: a folder with {' and '.join(needed)}")
    for name in needed:
        if not (folder / name).is_dir():
            raise ValueError(f"--data-dir {folder}: there is no folder {name} in it")
    return folder


def _overview(arguments: argparse.Namespace) -> Path:
    """Join finished studies, or those whose numbers docs/results holds, on one page; returns its path."""
    _refuse(arguments, "dataset", "data_dir", "rounds", "seeds", "deadline_fraction", because="overview")
    from .overview import write_overview

    arguments.out = arguments.out or Path("results") / "overview"
    return write_overview(arguments.paths, arguments.out)


def _comparison(arguments: argparse.Namespace) -> Path:
    """Train what is pending of a comparison of schemes and draw its page; returns the page's path."""
    study = named_study(arguments)
    arguments.out = arguments.out or Path("results") / f"{study.name}-{study.training.dataset}-{digest(study)}"
    if not arguments.report_only:
        import torch  # only where something is trained

        from .study import load_data, run_study

        torch.set_num_threads(1)  # small matrices: more threads are slower, and their number changes rounding
        run_study(study, load_data(study.training, _folder(arguments)), arguments.out)
    from .report import write_report

    return write_report(arguments.out)


def _explore(arguments: argparse.Namespace) -> int:
    """Serve the explorer until it is interrupted; returns the exit code."""
    _refuse(arguments, "dataset", "data_dir", "rounds", "seeds", "deadline_fraction", "out", because="explore")
    if arguments.report_only:
        raise ValueError("--report-only does not apply to explore")
    if len(arguments.paths) > 1:
        raise ValueError(f"unexpected argument: {arguments.paths[1]}")
    port = 5006 if arguments.port is None else arguments.port
    if not 0 <= port <= 65535:
        raise ValueError(f"--port {port}: must lie in [0, 65535]")
    try:
        from .explore.server import explore
    except ModuleNotFoundError as error:
        raise ValueError(f"{error}; pip install -r requirements/explore.txt brings what is needed") from None
    try:
        explore(arguments.paths[0] if arguments.paths else None, port, browser=not arguments.no_browser)
    except KeyboardInterrupt:
        print("validation: explorer ended", file=sys.stderr)
    return 0


RUN: dict[str, Callable[[argparse.Namespace], Path]] = {
    **dict.fromkeys(STUDIES, _comparison),
    **dict.fromkeys(CASE_STUDIES, _case_study),
    "ordering": _ordering,
    **dict.fromkeys(("adaptive", "baselines", "tuning", "baselines-tuning"), _adaptive),
    **dict.fromkeys(("difference", "difference-kept", "kinds"), _unlike),
    "harder": _harder,
    **dict.fromkeys(("drives", "drives-tuning"), _drives),
    "overview": _overview,
}
"""What runs each named study and draws its page, all but `explore`."""


def command(argv: list[str] | None, arguments: argparse.Namespace) -> int:
    """Parse `argv` into `arguments`, so that whoever holds them knows how far this got, and do what they ask."""
    parser().parse_args(argv, arguments)
    if arguments.study == "explore":
        return _explore(arguments)
    _refuse(arguments, "port", "no_browser", because=arguments.study)
    run = RUN[arguments.study]
    if run is not _adaptive:
        _refuse(arguments, "model", because=arguments.study)
    if arguments.paths and arguments.study != "overview":
        raise ValueError(f"unexpected argument: {arguments.paths[0]}")
    try:
        path = run(arguments)
    except ImportError as error:
        raise ImportError(f"{error}; pip install -r requirements/report.txt brings what is needed") from None
    except MemoryError as error:
        raise MemoryError(f"fewer rounds or a later deadline need less: {error}") from None
    emit(f"report: {path.resolve()}\nnumbers: {path.with_name('report.json').resolve()}\n")
    return 0
