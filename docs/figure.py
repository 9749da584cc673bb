"""Draws docs/joint_against_equal.svg, the README's figure: python docs/figure.py."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt
import numpy as np

import kktalloc as ka
from kktalloc import channel

K, CELLS = 10, 200
BANDWIDTH_HZ = 5e6


def main() -> None:
    """Mean pruning that a deadline costs, with bandwidth shared equally and jointly optimised."""
    rng = np.random.default_rng(0)
    gain = channel.MACRO_3GPP.gain(channel.place_in_annulus(rng, (CELLS, K), 500.0, 35.0))
    gain = gain * channel.rayleigh_mrc(rng, (CELLS, K), antennas=4)
    phones = {"tx_power_max_w": channel.dbm_to_w(23.0), "payload_bits": 32 * 110_000, "overhead_bits": 110_000}
    compute_s = rng.uniform(0.02, 0.1, (CELLS, K))
    noise = channel.noise_psd_w_per_hz(noise_figure_db=5.0)

    deadlines = np.linspace(0.1, 1.5, 36)
    joint, equal, common = [], [], []
    for deadline in deadlines:
        devices = ka.Devices(channel_gain=gain, pruned_compute_s=compute_s, **phones)
        s = ka.solve(ka.Problem(ka.Cell(BANDWIDTH_HZ, noise, deadline), devices), throw=False)
        joint.append(np.where(s.diagnosis is None or s.diagnosis.feasible, s.objective, np.nan))
        # Equal shares: each phone alone in a cell of its own with a tenth of the bandwidth.
        alone = ka.Devices(channel_gain=gain[..., None], pruned_compute_s=compute_s[..., None], **phones)
        e = ka.solve(ka.Problem(ka.Cell(BANDWIDTH_HZ / K, noise, deadline), alone), throw=False)
        equal.append(e.objective.mean(axis=-1))
        common.append(e.objective.max(axis=-1))  # one ratio for all must suit the weakest

    mpl.rcParams.update({"svg.hashsalt": "kktalloc", "svg.fonttype": "none", "font.size": 11})
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for name, rows, colour in (
        ("equal bandwidth, one ratio for all", common, "#009E73"),
        ("equal bandwidth, a ratio each", equal, "#D55E00"),
        ("joint optimum", joint, "#0072B2"),
    ):
        values = np.array(rows)
        axes.plot(deadlines, np.nanmean(values, axis=1), color=colour, label=name)
        low, high = np.nanpercentile(values, [10, 90], axis=1)
        axes.fill_between(deadlines, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="round deadline (s)", ylabel="mean pruning ratio", ylim=(0, 1), xlim=(deadlines[0], deadlines[-1]))
    axes.set_title("What a deadline costs: 10 phones, 5 MHz, 500 m 3GPP macro cell", fontsize=11)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(Path(__file__).with_name("joint_against_equal.svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()
