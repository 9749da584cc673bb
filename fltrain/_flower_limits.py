"""What the server believes of what devices tell it: bounds on uploads and reports, and what it counts for itself."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray

from fltrain.accounting import HEADER_BITS, VALUE_BITS, Workload, plan_work
from fltrain.config import TrainConfig, UpdateKind
from fltrain.curve import ERROR_RATIOS, REPORT_BITS, ChangeReport
from fltrain.local import Upload, sent_bits
from fltrain.split import Split

_log = logging.getLogger(__name__)
_ROUNDING = 1e-9
_TO_JUDGE = 3


@dataclass(frozen=True)
class Limits:
    """Bounds on what the server believes; ``inf`` switches one off.

    Raises
    ------
    ValueError
        Names the field and the value.
    """

    distance: float = 10.0
    """An upload is refused if what it changes is longer, as a vector (n,), than this many times the broadcast global
    part or, where that is longer, a vector of ones."""
    outlier: float = 10.0
    """It is refused, too, if its change is longer than this many times the median of the round's uploads, if these are
    three or more."""
    loss: float = 1e4
    """A greater training loss is refused, as is one below 0."""
    channel_gain: float = 1.0
    """A device that reports a greater linear gain takes no part in the round."""
    samples: float = 10.0
    """With ``aggregation="samples"``, a device counts at most this many times the median number of samples."""
    rejoin: bool = True
    """Whether a new node may take the place of one that is offline, as a restarted SuperNode must if it has no key of
    its own. If not, a device belongs to the node that first claimed it for the whole run."""

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name != "rejoin" and not (isinstance(value, int | float) and value > 0.0):
                raise ValueError(f"{f.name} must be a number > 0, got {value!r}")


def judge_upload(
    upload: Upload, u: torch.Tensor, update: UpdateKind, config: TrainConfig, limits: Limits
) -> tuple[Upload, float]:
    """The upload with what the server can count for itself, and the length of its change.

    Values that are not finite or of a wrong number are left to the loop to refuse; the length is then NaN.

    Raises
    ------
    ValueError
        It is out of bounds.
    """
    values, mask, report = upload.values, upload.mask, upload.report
    if values is None or values.shape != u.shape:
        return upload, math.nan
    farthest = limits.distance * max(float(u.double().norm()), math.sqrt(len(u)))
    change = values.double() - u.double()
    length = float((change if mask is None else change * mask).norm())
    if length > farthest:
        raise ValueError(f"sent a change of length {length:.3g}, the limit is {farthest:.3g}")
    if math.isfinite(upload.loss) and not 0.0 <= upload.loss <= limits.loss:
        raise ValueError(f"reported the loss {upload.loss:g}, the limit is {limits.loss:g}")
    error_sq, bits = upload.pruning_error_sq, upload.bits
    if update == "sparse" and mask is not None:
        if error_sq > farthest**2:
            raise ValueError(
                f"reported an unsent change of squared length {error_sq:.3g}, the limit is {farthest**2:.3g}"
            )
    else:
        lost = u - u * mask if update == "zeroed" and mask is not None else torch.zeros(1)
        error_sq = float(lost.double().square().sum())
    if config.structure == "weights" or mask is None:
        bits = sent_bits(len(u), mask, report=report)
    else:  # units are named, so that the mask takes fewer bits than one of weights could
        most = HEADER_BITS + REPORT_BITS + VALUE_BITS * int(mask.sum()) + len(u)
        if bits > most:
            raise ValueError(f"reported an upload of {bits:g} bits, it has at most {most}")
    if report is not None:
        _judge_report(report, farthest)
    return replace(upload, pruning_error_sq=error_sq, bits=bits), length


def longest_allowed(lengths: Iterable[float], limits: Limits) -> float:
    """How long a change may be beside the others of its round."""
    known = [length for length in lengths if math.isfinite(length)]
    return limits.outlier * float(np.median(known)) if len(known) >= _TO_JUDGE else math.inf


def _judge_report(report: ChangeReport, farthest: float) -> None:
    """An error curve rises and lies below its chord: it is a sum of sorted numbers."""
    rises = bool(np.all(np.diff(report.error) >= -_ROUNDING) and np.all(report.error <= ERROR_RATIOS + _ROUNDING))
    if not rises or report.change_sq > farthest**2:
        raise ValueError(f"reported a change of squared length {report.change_sq:.3g} with a curve that no change has")


def believe_reports(
    reports: Mapping[int, Mapping[str, float]], split: Split, config: TrainConfig, limits: Limits
) -> tuple[Workload, NDArray[np.bool_]]:
    """The work of all devices, and which of them are left out for what they claim, bool (K,).

    Bits follow from the model and are counted here. FLOPs follow from the model and the size of a batch: more than
    its batch's number of samples times the median no honest device has.
    """
    K = len(reports)

    def claimed(name: str, otherwise: str = "") -> NDArray[np.float64]:
        return np.array([reports[k].get(name, reports[k].get(otherwise, 0.0)) for k in range(K)], dtype=np.float64)

    flops: dict[str, NDArray[np.float64]] = {
        "personal": claimed("personal_flops"),
        "whole": claimed("pruned_flops") + claimed("dense_flops"),
        "passes": claimed("passes_flops"),
        "probing": claimed("probing_flops", "probe_flops"),
    }
    barred = np.zeros(K, dtype=np.bool_)
    batches = np.array([config.batch_of(k) for k in range(K)], dtype=np.float64)
    for name, value in flops.items():
        limit = batches * float(np.median(value))
        for k in np.flatnonzero(~(value <= limit)).tolist():
            _log.warning(
                "device %d is left out: it claims %g FLOPs of %s steps, the limit is %g", k, value[k], name, limit[k]
            )
            barred[k] = True
        flops[name] = np.minimum(value, limit)
    samples = claimed("samples")
    most = limits.samples * float(np.median(samples))
    for k in np.flatnonzero(samples > most).tolist():
        _log.warning("device %d claims %g samples and counts as %g", k, samples[k], most)
    personal, whole, passes, probing = flops.values()
    counted = np.minimum(samples, most)
    work = plan_work(split, config, counted, personal=personal, whole=whole, passes=passes, probing=probing)
    return work, barred
