"""fltrain: split-and-prune federated learning in torch, one readable round loop.

Each device trains a personal part that never leaves it and a pruned copy of the shared global part; the
server averages each coordinate over the devices that kept it. How much each device prunes comes from a
`Planner`; this package knows nothing of radio or of how the ratios were found.
"""

try:
    import torch as _torch  # noqa: F401
    import tqdm as _tqdm  # noqa: F401
except ModuleNotFoundError as error:
    if error.name not in ("torch", "tqdm"):
        raise
    message = f"fltrain needs {error.name}, which an extra brings: pip install 'kktalloc[train]'"
    raise ModuleNotFoundError(message, name=error.name) from None

from fltrain.accounting import Workload as Workload
from fltrain.accounting import count_workload as count_workload
from fltrain.checkpoint import Checkpoint as Checkpoint
from fltrain.config import TrainConfig as TrainConfig
from fltrain.curve import ERROR_RATIOS as ERROR_RATIOS
from fltrain.curve import Changes as Changes
from fltrain.data import Dataset as Dataset
from fltrain.data import load_digits as load_digits
from fltrain.data import load_idx as load_idx
from fltrain.data import load_npz as load_npz
from fltrain.data import load_openml as load_openml
from fltrain.history import COLUMNS as COLUMNS
from fltrain.history import History as History
from fltrain.loop import train as train
from fltrain.models import build_model as build_model
from fltrain.partition import DeviceData as DeviceData
from fltrain.partition import deal as deal
from fltrain.partition import partition as partition
from fltrain.plan import Planner as Planner
from fltrain.plan import RoundPlan as RoundPlan
from fltrain.split import PersonalState as PersonalState
from fltrain.split import Split as Split
