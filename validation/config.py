"""What is run: frozen configs, one per named study. Every constant has its source beside it."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal

SEEDS, ROUNDS = (1, 1000), (1, 100_000)
"""Least and greatest number of each: more would be a slip of the keyboard, not a study."""
DEADLINE_FRACTION = (0.05, 1.0)
"""Least and greatest. Below, hardly a round could be in time, and the number of rounds grows as the inverse; above 1
nothing need be pruned."""


@dataclass(frozen=True)
class Radio:
    """The cell and the phones in it.

    Values come from the sources named beside them, but three choices were made after a look at runs that included
    seeds 0 to 2: `bandwidth_hz` (20 MHz at first: rounds of 6 to 25 ms were implausible), `pruning_ratio_max` and, in
    `Study` and `Training`, the deadline fraction, the half-time budget, the averaging window and the learning rates.
    Reported seeds start at 100: nothing was chosen on them. Unless said otherwise values are those of
    Yang, Chen, Saad, Hong, Shikh-Bahaei, "Energy efficient federated learning over wireless communication
    networks", IEEE Trans. Wireless Commun. 20(3), 2021, Section V (users in a 500 m x 500 m area,
    128.1 + 37.6 log10 d_km, 8 dB shadowing, -174 dBm/Hz, 2 GHz, kappa = 1e-28).
    """

    path_loss: str = "macro_3gpp"
    """128.1 + 37.6 log10(d_km) dB, 8 dB shadowing (once per device), at least 35 m: 3GPP TR 36.814 at 2 GHz."""
    cell_radius_m: float = 250.0
    """Devices are uniform over the disc of this radius."""
    antennas: int = 4
    """Base station antennas M; maximum-ratio combining in the uplink."""
    bandwidth_hz: float = 5e6
    """Uplink bandwidth of the cell, shared by FDMA: one 5 MHz carrier (3GPP TS 36.101) for 10 phones; Yang et al.
    have 20 MHz for 50."""
    noise_figure_db: float = 5.0
    """Base station receiver, above thermal noise of -174 dBm/Hz (3GPP TR 36.814, table A.2.1.1-2)."""
    device_noise_figure_db: float = 9.0
    """Phone receiver, for the broadcast (3GPP TR 36.814, table A.2.1.1-2)."""
    tx_power_dbm: float = 23.0
    """Phone transmit power (3GPP TS 36.101, power class 3)."""
    server_tx_power_dbm: float = 43.0
    """Base station transmit power over a 5 MHz carrier (3GPP TR 36.814, table A.2.1.1-2)."""
    pa_efficiency: float = 0.35
    """Radiated over drawn power of a handset power amplifier near its peak."""
    clock_hz: float = 2e9
    """Processor clock f."""
    cycles_per_flop: tuple[float, float] = (0.25, 0.75)
    """Uniform range over devices: 2.7 to 8 GFLOP/s sustained, what a few phone cores give on small batches
    (a peak 128-bit FMA pipe does 8 FLOP per cycle). The spread of 3 is that of Yang et al. (1e4 to 3e4
    cycles per sample)."""
    switched_capacitance: float = 1e-28
    """kappa in kappa C f^2 joules for C cycles."""
    energy_budget_j: float | None = None
    """Per device and round; None: accounted but not limited. A limit below what an unpruned upload costs in
    some round is refused, as the unpruned schemes could not run at all."""
    pruning_ratio_max: float = 0.8
    """No device is asked to drop more than this share of its global weights. Chosen by training: at 0.9 it fell behind
    on seeds 10 to 13, at 0.8 it did not; runs at seeds 0 to 2 had been seen by then."""


@dataclass(frozen=True)
class Training:
    """Data split, model and local updates; the names are those of `fltrain`."""

    dataset: Literal["digits", "fashion_mnist", "mnist"] = "digits"
    devices: int = 10
    partition: Literal["shards", "dirichlet", "iid"] = "shards"
    classes_per_device: int = 2
    samples_per_device: int | None = None
    test_fraction: float = 0.3
    model: Literal["mlp", "cnn"] = "mlp"
    personal: tuple[str, ...] = ("head",)
    """Layers kept on the device by the personalised schemes."""
    rounds: int = 100
    """Rounds of the unpruned reference; their simulated time is the budget from which the others get theirs."""
    personal_steps: int = 5
    """On the personal part. Studies of the scheme as it was published keep as many as pruned ones; those of sparse
    uploads take six, more than pruned ones, as in LocalAlt."""
    probe_steps: int = 1
    pruned_steps: int = 5
    batch_size: int = 32
    learning_rate_global: float = 0.1
    """Both rates: the best of 0.1, 0.2 and 0.4 for the unpruned reference on seeds 0 to 2, so that no saving comes
    from a rate that suits pruning better."""
    learning_rate_personal: float = 0.1
    importance: Literal["movement", "magnitude", "taylor", "random"] = "movement"


@dataclass(frozen=True)
class Study:
    """One named study: everything that its numbers depend on, apart from the code and the data's bytes."""

    name: str = "schemes"
    schemes: tuple[str, ...] = ("fedavg", "partial", "fixed_equal", "equal", "joint")
    """Names in `validation.schemes.SCHEMES`; the claims need `REFERENCE`, `EQUAL` and `JOINT`."""
    seeds: tuple[int, ...] = (100, 101, 102)
    """One seed fixes data split, cell, fading, weights and batches, and all the schemes share it, so differences
    between schemes are paired. Fresh: settings were chosen on seeds below 100."""
    deadline_fraction: float = 0.4
    """Deadline of a pruned round, as a share of the mean unpruned round of the same cell ("partial", its
    bandwidth already shared for the earliest finish). Known before any training. The claim asks for half the
    time; 0.4 leaves a quarter more rounds to make up for what pruning costs. Chosen after runs at seeds 0 to 2."""
    time_share: float = 0.5
    """Pruned schemes train for this share of the reference's simulated time, unpruned ones for all of it; each runs
    as many whole rounds as fit. A half, because that is what is claimed to be enough."""
    radio: Radio = field(default_factory=Radio)
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        """Refuse values that no run could use, naming the field."""
        for name, value in (("devices", self.training.devices), ("antennas", self.radio.antennas)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        for name, number, (least, most) in (
            ("seeds", len(self.seeds), SEEDS),
            ("rounds", self.training.rounds, ROUNDS),
            ("deadline_fraction", self.deadline_fraction, DEADLINE_FRACTION),
        ):
            if not least <= number <= most:
                raise ValueError(f"{name} must lie in [{least}, {most}], got {number}")
        if not (math.isfinite(self.time_share) and self.time_share > 0):
            raise ValueError(f"time_share must be positive, got {self.time_share}")
        if not 0 <= self.radio.pruning_ratio_max < 1:
            raise ValueError(f"pruning_ratio_max must lie in [0, 1), got {self.radio.pruning_ratio_max}")


REFERENCE, EQUAL, JOINT = "partial", "equal", "joint"
"""The three schemes between which the claims are made."""

# Fashion-MNIST and MNIST: 600 samples per phone, so that a device's data stays phone-sized.
DATASETS: dict[str, dict[str, Any]] = {
    "digits": {"learning_rate_global": 0.2, "learning_rate_personal": 0.2},
    "fashion_mnist": {"samples_per_device": 600},
    "mnist": {"samples_per_device": 600},
}

FIRST_SEED = 100


def seeds(count: int, first: int = FIRST_SEED) -> tuple[int, ...]:
    """The first `count` seeds that are reported."""
    if not SEEDS[0] <= count <= SEEDS[1]:
        raise ValueError(f"--seeds must lie in [{SEEDS[0]}, {SEEDS[1]}], got {count}")
    return tuple(range(first, first + count))


STUDIES: dict[str, Study] = {
    "schemes": Study(training=Training(**DATASETS["digits"])),
    "latency": Study(
        name="latency",
        schemes=("fedavg", "partial", "fixed", "equal", "pruning_only", "allocation_only", "joint"),
        seeds=seeds(5),
        training=Training(dataset="mnist", **DATASETS["mnist"]),
    ),
    "ablation": Study(
        name="ablation",
        schemes=(
            "partial", "equal", "pruning_only", "allocation_only", "shared",
            "magnitude", "taylor", "random", "quadratic", "joint",
        ),
        seeds=seeds(5),
        training=Training(**DATASETS["digits"]),
    ),
}  # fmt: skip
"""Named comparisons. The other studies have configs of their own: see `validation.command`."""


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain dict of a config, as JSON holds it (tuples become lists)."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config), allow_nan=False))
    return plain


def from_dict(config_type: type, values: dict[str, Any]) -> Any:
    """Inverse of `to_dict`; an unknown or missing field raises ValueError naming it."""
    defaults = config_type()
    names = {f.name for f in fields(config_type)}
    if odd := sorted(names ^ set(values)):
        raise ValueError(f"{config_type.__name__}: unknown or missing field {odd[0]!r}")
    built = {}
    for name, value in values.items():
        default = getattr(defaults, name)
        if is_dataclass(default):
            built[name] = from_dict(type(default), value)
        else:
            built[name] = tuple(value) if isinstance(value, list) else value
    return config_type(**built)


def run_config(study: Study) -> dict[str, Any]:
    """The part of a study that one run's numbers depend on: more seeds or schemes leave finished runs valid."""
    whole = to_dict(study)
    return {name: whole[name] for name in whole if name not in ("name", "seeds", "schemes")}


def fingerprint(config: dict[str, Any]) -> str:
    """Short, for folder names."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:8]


def digest(study: Study) -> str:
    """Fingerprint of `run_config`."""
    return fingerprint(run_config(study))
