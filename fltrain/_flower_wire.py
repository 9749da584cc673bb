"""What server and devices write to each other through Flower; whatever arrives is checked as it is read."""
# flwr is an extra: where it is not installed, its classes are unknown to the type checker.
# mypy: disable-error-code="no-untyped-call, unused-ignore"

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from fltrain.curve import ERROR_RATIOS, ChangeReport
from fltrain.local import Upload
from fltrain.split import PersonalState

WORK = ("personal_flops", "probe_flops", "pruned_flops", "payload_bits", "overhead_bits", "broadcast_bits")
"""Fields of `Workload` that every device counts for itself."""
MORE_WORK = ("dense_flops", "passes_flops", "probing_flops")
"""Those that one of rounds without frozen or sparse uploads may leave out."""
_LONGEST_HEADER = 256
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(?P<length>..)\{'descr': '(?P<dtype>[<|][biufc][0-9]{1,2})', 'fortran_order': False, "
    rb"'shape': \((?P<shape>(?:[0-9]{1,12}(?:, [0-9]{1,12}){0,7},?)?)\), \} *\n",
    re.DOTALL,
)
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
    except Exception as error:
        raise ValueError(f"sent a malformed {record}: {error!r:.200}") from None


def ndarrays(content: Any, record: str, most_values: int | None = None) -> list[NDArray[Any]]:
    """The arrays of a record, as copies that may be written to.

    Each is checked before it is decoded: type and shape that its header announces must be what came, to the byte.
    NumPy's own reader would allocate what a header asks for, evaluate the header as Python, and open zip files.

    Parameters
    ----------
    content, record
        A Flower ``RecordDict``, and the name of one of its ``ArrayRecord``.
    most_values : int, optional
        No array may have more elements.

    Raises
    ------
    ValueError
        There is no such record, or it holds something else, nothing, or too much.
    """
    try:
        arrays = [_decoded(array, most_values) for array in content[record].values()]
    except Exception as error:
        raise ValueError(f"sent a malformed {record}: {error!r:.200}") from None
    if not arrays:
        raise ValueError(f"sent a malformed {record}: no arrays")
    return arrays


def _decoded(array: Any, most_values: int | None) -> NDArray[Any]:
    """One Flower array, of the form in which `numpy.save` writes numbers of this machine's byte order."""
    if array.stype != "numpy.ndarray":
        raise ValueError(f"an array of type {array.stype!r:.50}")
    data = array.data
    header = _HEADER.match(data[:_LONGEST_HEADER])
    if header is None:
        raise ValueError("an array whose header is none of numpy.save")
    begin = 10 + int.from_bytes(header["length"], "little")
    dtype = np.dtype(header["dtype"].decode())
    shape = tuple(int(size) for size in re.findall(rb"[0-9]+", header["shape"]))
    if begin != header.end():
        raise ValueError("an array whose header is none of numpy.save")
    count = math.prod(shape)  # of Python's own numbers, which do not overflow
    if most_values is not None and count > most_values:
        raise ValueError(f"an array of {count} values, at most {most_values} are expected")
    if len(data) != begin + count * dtype.itemsize:
        raise ValueError(f"an array of {count} values in {len(data)} bytes")
    return np.frombuffer(data, dtype, offset=begin).reshape(shape).copy()


def write_personal(state: PersonalState) -> ArrayRecord:
    """A personal part for ``context.state``."""
    return ArrayRecord(numpy_ndarrays=[t.contiguous().numpy() for t in state.tensors()])


def read_personal(content: Any, record: str) -> PersonalState:
    """What `write_personal` wrote."""
    return PersonalState.of([torch.from_numpy(a) for a in ndarrays(content, record)])


def reference(label: int) -> PersonalState:
    """What the server holds in place of a personal part: the label under which the device keeps it."""
    return PersonalState(torch.tensor([label]), ())


def label(state: PersonalState) -> int:
    """The label in a `reference`."""
    return int(state.v)


def write_upload(upload: Upload, label: int, next_channel_gain: float) -> RecordDict:
    """A device's answer to a training message.

    Only what was kept travels: its values, and where they belong, as one bit per coordinate or, if that is shorter, as
    the numbers of the kept ones.
    """
    about: dict[str, float] = {
        "loss": upload.loss,
        "pruning_error_sq": upload.pruning_error_sq,
        "bits": upload.bits,
        "label": label,
        "next_channel_gain": next_channel_gain,
    }
    if upload.report is not None:
        about["change_sq"] = upload.report.change_sq
    content = RecordDict({"about": MetricRecord({**about})})
    if upload.values is not None:
        sent = [upload.values.numpy()]
        if upload.mask is not None:
            kept = np.flatnonzero(upload.mask.numpy()).astype(np.uint32)
            bits = np.packbits(upload.mask.numpy())
            sent = [upload.values.numpy()[kept], bits if bits.nbytes <= kept.nbytes else kept]
        if upload.report is not None:
            content["report"] = ArrayRecord(numpy_ndarrays=[upload.report.error])
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
    values, *coded = ndarrays(content, "sent", n)
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
        _read_report(content) if "report" in content else None,
    )


def _read_mask(coded: NDArray[Any], n: int) -> NDArray[np.bool_]:
    """A mask of `n` coordinates: one bit each, or the numbers of those kept, ascending."""
    if coded.dtype == np.uint8 and coded.shape == (-(-n // 8),):
        return np.unpackbits(coded, count=n).astype(np.bool_)
    ascending = coded.dtype == np.uint32 and coded.ndim == 1 and bool(np.all(coded[1:] > coded[:-1]))
    if not ascending or (coded.size and coded[-1] >= n):
        raise ValueError(
            f"sent a mask of {coded.dtype} {coded.shape}, expected one bit for each of {n}, or numbers of those kept"
        )
    mask = np.zeros(n, dtype=np.bool_)
    mask[coded] = True
    return mask


def _read_report(content: Any) -> ChangeReport:
    change_sq = numbers(content, "about", ["change_sq"])["change_sq"]
    error, *more = ndarrays(content, "report", len(ERROR_RATIOS))
    shaped = not more and error.dtype == np.float64 and error.shape == ERROR_RATIOS.shape
    if not (shaped and 0.0 <= change_sq < math.inf and bool(np.all((error >= 0.0) & (error <= 1.0)))):
        raise ValueError(f"sent a malformed report: squared change {change_sq}, {error.dtype} {error.shape}")
    return ChangeReport(change_sq, error)
