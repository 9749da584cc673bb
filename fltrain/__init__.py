"""fltrain: split-and-prune federated learning in torch, one readable round loop.

Each device trains a personal part that never leaves it and a pruned copy of the shared global part; the
server averages each coordinate over the devices that kept it. How much each device prunes comes from a
`Planner`; this package knows nothing of radio or of how the ratios were found.
"""

import sys as _sys

try:
    import torch as _torch  # noqa: F401
    import tqdm as _tqdm  # noqa: F401
except ModuleNotFoundError as error:
    if error.name not in ("torch", "tqdm"):
        raise
    message = f"fltrain needs {error.name}, which an extra brings: pip install 'kktalloc[train]'"
    if _sys.orig_argv[1:3] == ["-m", "fltrain"]:  # a command ends in one line
        _sys.stderr.write(f"fltrain: error: {message}\n")
        raise SystemExit(2) from None
    raise ModuleNotFoundError(message, name=error.name) from None

from fltrain.accounting import Workload, count_workload
from fltrain.broadcast import Moves
from fltrain.checkpoint import Checkpoint
from fltrain.config import TrainConfig
from fltrain.curve import ERROR_RATIOS, Changes
from fltrain.data import Dataset, load_digits, load_idx, load_npz, load_openml
from fltrain.history import COLUMNS, History
from fltrain.loop import Interrupted, train
from fltrain.models import build_model
from fltrain.partition import DeviceData, deal, partition
from fltrain.plan import Planner, RoundPlan
from fltrain.split import PersonalState, Split

__all__ = [
    "COLUMNS",
    "ERROR_RATIOS",
    "Changes",
    "Checkpoint",
    "Dataset",
    "DeviceData",
    "History",
    "Interrupted",
    "Moves",
    "PersonalState",
    "Planner",
    "RoundPlan",
    "Split",
    "TrainConfig",
    "Workload",
    "build_model",
    "count_workload",
    "deal",
    "load_digits",
    "load_idx",
    "load_npz",
    "load_openml",
    "partition",
    "train",
]
