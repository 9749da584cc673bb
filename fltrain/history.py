"""What a run leaves behind: one record per round, with every column defined here."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fltrain.split import PersonalState
from kktalloc._durable import write_durably
from kktalloc._problem.shown import Rows, Shown, counted, table

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {
    "round": "round number, from 0",
    "wall_clock_s": "simulated time at the end of the round: sum of round_latency_s so far",
    "round_latency_s": "how long the round took: as planned, else the largest planned latency among participating "
    "devices (0 if there are none)",
    "energy_j": "planned energy of the participating devices, summed, this round",
    "energy_j_per_device": "the same, per device (K); 0 for devices that do not participate",
    "accuracy": "mean over all devices of accuracy on their own held-out data after aggregation; null "
    "between evaluations",
    "accuracy_per_device": "the same, per device (K); null between evaluations, and for a remote device that "
    "did not answer, which the mean then leaves out",
    "train_loss": "aggregation-weighted mean training loss over the pruned steps of accepted devices; null if none",
    "mean_pruning_ratio": "aggregation-weighted mean pruning ratio of participating devices; null if none",
    "pruning_ratio_per_device": "planned ratio (K); 0 for devices that do not participate",
    "update": "kind of the round: zeroed, frozen or sparse; unpruned where no device that took part was to prune",
    "pruning_error_sq": "sum over accepted devices of alpha_k times what the mask took away: ||u - m_k u||^2 in zeroed "
    "rounds (the bound's sum of alpha_k rho_k D^2), the squared norm of the unsent change in sparse ones, 0 in frozen "
    "ones; null if none",
    "change_sq_per_device": "squared norm of the change of the global part that each device reported (K), null: none; "
    "who was pruned in a frozen round reports the change that training all weights would have made, an estimate from "
    "the change of those that it kept",
    "error_curve": "share of all reported squared change that pruning by each of fltrain.ERROR_RATIOS would lose; null "
    "if none was reported",
    "global_norm_sq": "||u||^2 of the broadcast global part",
    "broadcast_bits": "bits of the largest broadcast that a participating device received; 0 if there are none",
    "uploaded_bits": "bits of all uploads that arrived this round, masks and headers included",
    "coverage_min": "Gamma: least aggregation weight (of all K devices, sum 1) that kept a covered "
    "coordinate; 0 if none is covered",
    "uncovered_share": "share of coordinates that no accepted device kept; they stay as they were",
    "participants": "number of devices that took part and whose upload was not planned to be lost",
    "not_asked": "why each device (K) was not asked to take part, as planned: no service (with Flower, no channel that "
    "can be), the resource that it lacks, or claims that no device makes; empty for who was, or was not drawn; null if "
    "the planner does not say",
    "lost": "devices that took part and were charged, whose upload the plan says came too late or never",
    "left_out": "devices whose upload was refused this round (not finite, wrong shape, or nothing)",
}
"""Every column of ``History.records`` and what it means."""


_LAST = 5  # rounds that a prompt shows


@dataclass(frozen=True, repr=False)
class History(Shown):
    """The records of a run and the models it ended with.

    Parameters
    ----------
    records : list of dict
        One per round, keys as in `COLUMNS`.
    u : float32 tensor (n_global,)
        Final global part.
    personal : list of PersonalState
        Final personal part of every device; ``split.assemble(u, personal[k])`` is its model. Empty where
        devices are remote and keep their own.
    stats : dict
        How devices trained, and why so: ``steps``, ``features`` and ``network``. Empty where devices are remote.
    """

    records: list[dict[str, Any]]
    u: torch.Tensor
    personal: list[PersonalState]
    stats: dict[str, str] = field(default_factory=dict)

    def _shown(self) -> tuple[str, Rows]:
        if not self.records:
            return "no rounds", ()
        energy_j = sum(record["energy_j"] for record in self.records)
        line = f"{counted(len(self.records), 'round')}, {self.records[-1]['wall_clock_s']:.4g} s, {energy_j:.4g} J"
        judged = [record for record in self.records if record["accuracy"] is not None]
        line += f", accuracy {judged[-1]['accuracy']:.3f} at the end" if judged else ""
        names = ("wall_clock_s", "accuracy", "train_loss", "mean_pruning_ratio", "energy_j", "participants")
        last = self.records[-_LAST:]
        columns = {name: ["" if record[name] is None else f"{record[name]:.4g}" for record in last] for name in names}
        return line, table("round", [str(record["round"]) for record in last], columns)

    def time_to_accuracy(self, target: float) -> float:
        """Simulated seconds until the mean accuracy first reached `target`, in [0, 1]; inf if it never did."""
        reached = (r["wall_clock_s"] for r in self.records if r["accuracy"] is not None and r["accuracy"] >= target)
        return float(next(reached, math.inf))

    def energy_to_accuracy(self, target: float) -> float:
        """Joules of all devices until the mean accuracy first reached `target`, in [0, 1]; inf if it never did."""
        spent_j = 0.0
        for record in self.records:
            spent_j += record["energy_j"]
            if record["accuracy"] is not None and record["accuracy"] >= target:
                return spent_j
        return math.inf

    def to_frame(self) -> pd.DataFrame:
        """One row per round."""
        import pandas as pd  # only for those who ask

        return pd.DataFrame.from_records(self.records, columns=list(COLUMNS))

    def to_json(self, path: str | Path | None = None) -> str:
        """The records and the meaning of their columns as strict JSON; also written to `path` if given."""
        text = json.dumps({"columns": COLUMNS, "records": self.records}, allow_nan=False, indent=1)
        if path is not None:
            write_durably(path, text + "\n")
        return text
