"""What server and devices write to each other through Flower; whatever arrives is checked as it is read."""
# flwr is an extra: where it is not installed, its classes are unknown to the type checker.
# mypy: disable-error-code="no-untyped-call, unused-ignore"

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from fltrain.local import Upload
from fltrain.split import PersonalState

WORK = ("personal_flops", "probe_flops", "pruned_flops", "payload_bits", "overhead_bits", "broadcast_bits")
"""Fields of `Workload` that a device counts for itself."""
LABELS = 2**53
"""Labels are whole numbers below this, which a float64 holds exactly."""


def numbers(content: Any, record: str, names: Sequence[str]) -> dict[str, float]:
    """The named entries of a record.

    Raises
    ------
    ValueError
        An entry is missing or no number.
    """
    try:
        return {name: float(content[record][name]) for name in names}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"sent a malformed {record}: {error!r}") from None


def ndarrays(content: Any, record: str) -> list[NDArray[Any]]:
    """The arrays of a record, as copies that may be written to.

    Raises
    ------
    ValueError
        There is no such record, or it holds something else or nothing.
    """
    try:
        arrays = [np.array(a) for a in content[record].to_numpy_ndarrays()]
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"sent a malformed {record}: {error!r}") from None
    if not arrays:
        raise ValueError(f"sent a malformed {record}: no arrays")
    return arrays


def write_personal(state: PersonalState) -> ArrayRecord:
    """A personal part for ``context.state``."""
    return ArrayRecord(numpy_ndarrays=[state.v.numpy(), *(b.numpy() for b in state.buffers)])


def read_personal(content: Any, record: str) -> PersonalState:
    """What `write_personal` wrote."""
    v, *buffers = (torch.from_numpy(a) for a in ndarrays(content, record))
    return PersonalState(v, tuple(buffers))


def reference(label: int) -> PersonalState:
    """What the server holds in place of a personal part: the label under which the device keeps it."""
    return PersonalState(torch.tensor([label]), ())


def label(state: PersonalState) -> int:
    """The label in a `reference`."""
    return int(state.v)


def write_upload(upload: Upload, label: int, next_channel_gain: float) -> RecordDict:
    """A device's answer to a training message.

    Only what was kept travels: its values, and one bit per coordinate that says where they belong.
    """
    about: dict[str, float] = {
        "loss": upload.loss,
        "pruning_error_sq": upload.pruning_error_sq,
        "bits": upload.bits,
        "label": label,
        "next_channel_gain": next_channel_gain,
    }
    content = RecordDict({"about": MetricRecord({**about})})
    if upload.values is not None:
        sent = [upload.values.numpy()]
        if upload.mask is not None:
            sent = [upload.values[upload.mask].numpy(), np.packbits(upload.mask.numpy())]
        content["sent"] = ArrayRecord(numpy_ndarrays=sent)
    return content


def read_upload(content: Any, device: int, n: int) -> Upload:
    """What `write_upload` wrote; without values if none were sent.

    Raises
    ------
    ValueError
        It is something else. Values of a wrong number, or not finite, are left to the loop to refuse.
    """
    about = numbers(content, "about", ("loss", "pruning_error_sq", "bits", "label"))
    if "sent" not in content:
        return Upload(device, None, None, reference(0), math.nan, math.nan, 0.0)
    error_sq, bits, own_label = about["pruning_error_sq"], about["bits"], about["label"]
    whole = own_label.is_integer() and 0 < own_label < LABELS
    if not (whole and 0.0 <= bits < math.inf and 0.0 <= error_sq < math.inf):
        raise ValueError(f"sent a malformed about: {about}")
    values, *coded = ndarrays(content, "sent")
    if values.dtype != np.float32 or len(coded) > 1:
        raise ValueError(f"sent {len(coded) + 1} arrays, the first of {values.dtype}; expected float32, then a mask")
    mask = None
    if coded:
        mask = _read_mask(coded[0], n)
        if values.shape != (np.count_nonzero(mask),):
            raise ValueError(f"sent values of shape {values.shape} for a mask that keeps {np.count_nonzero(mask)}")
        dense = np.zeros(n, dtype=np.float32)
        dense[mask] = values
        values = dense
    return Upload(
        device,
        torch.from_numpy(values),
        None if mask is None else torch.from_numpy(mask),
        reference(int(own_label)),
        about["loss"],
        error_sq,
        bits,
    )


def _read_mask(coded: NDArray[Any], n: int) -> NDArray[np.bool_]:
    if coded.dtype != np.uint8 or coded.shape != (-(-n // 8),):
        raise ValueError(f"sent a mask of {coded.dtype} {coded.shape}, expected one bit for each of {n}")
    return np.unpackbits(coded, count=n).astype(np.bool_)
