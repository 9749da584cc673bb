"""What a training run is made of, checked before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fltrain._fields import one_of, real_number, shown, truth, whole_number

Importance = Literal["movement", "magnitude", "taylor", "random"]
Algorithm = Literal["alternating", "simultaneous"]
Structure = Literal["weights", "units"]
Aggregation = Literal["uniform", "samples"]
UpdateKind = Literal["zeroed", "frozen", "sparse"]
Averaging = Literal["covered", "fill"]
Sampling = Literal["epochs", "replacement"]
Broadcast = Literal["whole", "moved"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Every choice of a run that changes its result.

    The schemes of the literature are corners of this one configuration: FedAvg is an empty personal part
    and ``pruning=False``; FedAlt and FedRep are ``alternating`` with few or many personal steps; FedSim is
    ``simultaneous`` with no personal steps.

    Raises
    ------
    ValueError
        Names the field and the value.
    """

    rounds: int = 50
    """Communication rounds."""
    personal_steps: int = 5
    """tau_v: SGD steps on the personal part, at full cost, before the global part is touched."""
    probe_steps: int = 1
    """tau_u: dense mini-batches on the global part from which importance is read; they are thrown away."""
    pruned_steps: int = 5
    """tau_hat: SGD steps on the kept weights, whose result is uploaded."""
    batch_size: int | Sequence[int] | NDArray[np.integer[Any]] = 32
    """Samples per step; a device that holds fewer uses all it has. A sequence holds one number for each of the K
    devices, in their order: slow ones can take fewer and finish when the others do. It is kept as a tuple."""
    learning_rate_global: float = 0.1
    """eta: step size on the global part, in probe and pruned steps."""
    learning_rate_personal: float = 0.1
    """eta_v: step size on the personal part."""
    update: UpdateKind = "zeroed"
    """What pruning means. ``zeroed``: dropped weights are set to zero before the pruned steps, which then cost less.
    ``frozen``: the pruned steps run through the whole model and move the kept weights only; the gradients of dropped
    weights are not computed. ``sparse``: all of the global part trains, without a probe, and the largest changes are
    sent."""
    error_feedback: bool = False
    """What a device did not send in a sparse upload is kept and added to its next change. Rounds of other kinds leave
    it as it is: without sparse ones it is empty."""
    sampling: Sampling = "epochs"
    """How mini-batches are drawn: shuffled ``epochs`` of each round, or every sample with ``replacement``, as the
    convergence bound assumes."""
    algorithm: Algorithm = "alternating"
    """``alternating``: personal steps first, then global steps with the personal part frozen.
    ``simultaneous``: each pruned step moves both parts at once, and `personal_steps` must be 0."""
    pruning: bool = True
    """False promises that no round prunes: no probe and no mask are accounted, and a plan that prunes is
    an error."""
    importance: Importance = "movement"
    """Score by which weights are kept: ``movement`` ``|w_probed - w|``, ``taylor`` ``|w g|`` with g the mean gradient
    over the probe batches, ``magnitude`` ``|w|`` and ``random`` (these two run no probe)."""
    structure: Structure = "weights"
    """What a mask drops: single ``weights``, or whole ``units`` (outputs of linear layers, channels of
    convolutions), which makes the pruned steps smaller in fact."""
    aggregation: Aggregation = "uniform"
    """Aggregation weight alpha_k: ``uniform`` 1/K, or in proportion to training ``samples``."""
    averaging: Averaging = "covered"
    """What the server makes of a coordinate that some devices dropped: the mean change over those that kept it
    (``covered``), so that the step grows as fewer keep it; or the mean over all, a dropped change counting as zero
    (``fill``), so that the size of the step does not depend on the masks."""
    server_rate: float = 1.0
    """The global part moves by this many times the mean change."""
    broadcast: Broadcast = "whole"
    """What a device receives when a round begins: the ``whole`` global part, or the coordinates that ``moved`` since it
    last received it and which they are. Either way it then holds the same; where rounds prune hard few move."""
    participation: float = 1.0
    """Share of the devices drawn at random each round (at least one), before the planner is asked."""
    evaluate_every: int = 1
    """Accuracy is measured every this many rounds and after the last; the other rounds hold null."""
    fast: bool = True
    """Take the exact shortcuts of the fast path; results differ from plain autograd by rounding only."""
    seed: int = 0
    """Seeds batches, random scores, dropout and participation; one generator per (seed, round, device)."""

    def __post_init__(self) -> None:  # noqa: D105
        for name, least in (
            ("rounds", 1),
            ("personal_steps", 0),
            ("probe_steps", 0),
            ("pruned_steps", 1),
            ("evaluate_every", 1),
            ("seed", 0),
        ):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), least=least))
        object.__setattr__(self, "batch_size", _batch_size(self.batch_size))
        for name in ("learning_rate_global", "learning_rate_personal", "server_rate"):
            value = real_number(name, getattr(self, name), "a finite number > 0", lambda value: value > 0.0)
            object.__setattr__(self, name, value)
        share = real_number("participation", self.participation, "in (0, 1]", lambda value: 0.0 < value <= 1.0)
        object.__setattr__(self, "participation", share)
        for name in ("pruning", "error_feedback", "fast"):
            truth(name, getattr(self, name))
        for name, allowed in (
            ("algorithm", Algorithm),
            ("importance", Importance),
            ("structure", Structure),
            ("aggregation", Aggregation),
            ("update", UpdateKind),
            ("averaging", Averaging),
            ("sampling", Sampling),
            ("broadcast", Broadcast),
        ):
            one_of(name, getattr(self, name), get_args(allowed))
        if self.algorithm == "simultaneous" and self.personal_steps:
            raise ValueError(f"personal_steps must be 0 when algorithm is simultaneous, got {self.personal_steps}")
        if self.update == "sparse" and self.structure != "weights":
            raise ValueError(f"structure must be weights when update is sparse, got {self.structure!r}")
        if self.error_feedback and not self.pruning:
            raise ValueError("error_feedback must be False when pruning is False, got True: all is sent")
        if self.error_feedback and self.structure == "units":
            raise ValueError("error_feedback must be False when structure is units, got True: no upload is sparse")

    def batch_of(self, device: int) -> int:
        """Samples per step of one device, if it holds as many."""
        return self.batch_size if isinstance(self.batch_size, int) else int(self.batch_size[device])

    def check_devices(self, devices: int) -> None:
        """Raise ValueError if there are batch sizes of more or fewer devices than these."""
        if not isinstance(self.batch_size, int) and len(self.batch_size) != devices:
            raise ValueError(f"batch_size has numbers for {len(self.batch_size)} devices, there are {devices}")

    @property
    def probes(self) -> bool:
        """Whether a device that is told to prune runs the probe."""
        probed = self.importance in ("movement", "taylor")
        return self.pruning and self.update != "sparse" and self.probe_steps > 0 and probed

    @property
    def reports(self) -> bool:
        """Whether devices report how much of their change pruning would lose (see `fltrain.curve`).

        A sparse upload knows its whole change, a frozen round that of its probe. Zeroing changes the gradient itself,
        of which the change says nothing.
        """
        known = self.update == "sparse" or (self.update == "frozen" and self.importance == "movement")
        return self.pruning and known

    def to_dict(self) -> dict[str, int | float | str | bool | tuple[int, ...]]:
        """Field names and values, for result files and checkpoints."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def _batch_size(value: object) -> int | tuple[int, ...]:
    """One number for all devices, or a tuple of theirs."""
    given = value.tolist() if isinstance(value, np.ndarray) else value
    if isinstance(given, Sequence) and not isinstance(given, str | bytes | bytearray | memoryview):
        if not given:
            raise ValueError("batch_size must hold one number for each device, got none")
        return tuple(whole_number(f"batch_size[{k}]", each, least=1) for k, each in enumerate(given))
    try:
        return whole_number("batch_size", given, least=1)
    except ValueError:
        what = "an integer >= 1, or a sequence of one for each device"
        raise ValueError(f"batch_size must be {what}, got {shown(value)}") from None
