"""The allocation problem in the hands of general-purpose solvers, for benchmarks: each returns rho, b, p."""

from __future__ import annotations

from typing import Any

import numpy as np
from independent import best_keep_ratio, floor_bandwidth_hz, physical

import kktalloc as ka
from kktalloc import channel

LN2 = float(np.log(2.0))
Allocation = tuple[np.ndarray, np.ndarray, np.ndarray]


def cell_of(devices: int, seed: int = 1, problems: int | None = None) -> tuple[ka.Cell, ka.Devices]:
    """A macro cell with Rayleigh fading: 23 dBm devices, energy budgets on half of them, 6 kHz each."""
    rng = np.random.default_rng(seed)
    shape = (devices,) if problems is None else (problems, devices)
    distance = channel.place_in_annulus(rng, int(np.prod(shape)), 500.0, channel.MACRO_3GPP.min_distance_m)
    gain = channel.MACRO_3GPP.gain(distance.reshape(shape)) * rng.exponential(size=shape)
    compute_s = rng.uniform(0.05, 0.3, shape)
    budget = np.where(rng.random(shape) < 0.5, np.inf, rng.uniform(0.05, 0.3, shape))
    return ka.Cell(6e3 * devices, channel.noise_psd_w_per_hz(noise_figure_db=5.0), 1.0), ka.Devices(
        channel_gain=gain,
        tx_power_max_w=rng.uniform(0.05, 0.2, shape),
        payload_bits=rng.uniform(0.5e5, 2e5, shape),
        pruned_compute_s=compute_s,
        energy_budget_j=budget,
        pruned_compute_j=0.2 * compute_s,
        weight=rng.uniform(0.5, 1.5, shape),
    )


class Ipopt:
    """IPOPT on the reduced form through CasADi, built once: only `solve` is timed."""

    def __init__(self, problem: ka.Problem) -> None:
        import casadi

        v = physical(problem)
        self.v, K = v, len(v["T"])
        A, T = v["a"] / v["T"], v["T"]
        snr = v["g"] * v["P"] / (v["B"] / K)
        share_bits = T * v["B"] / K * np.log2(1 + snr)
        unit = np.minimum(share_bits / (v["S"] + A * v["S0"]), np.where(A < 1, 1 / np.maximum(1 - A, 1e-3), np.inf))
        s, b, p = (casadi.MX.sym(n, K) for n in "sbp")
        q = unit * s / (1 + A * unit * s)
        rate = b * casadi.log1p(snr * p / b) / np.log1p(snr)
        rows = [rate - (v["S0"] + unit * (v["S"] + A * v["S0"]) * s) / share_bits, 1 - casadi.sum1(b) / K]
        limited = np.flatnonzero(np.isfinite(v["E"]))
        per = v["eta"][limited] / (T * v["P"])[limited]
        E, eps = v["E"][limited], v["eps"][limited]
        ids = [int(i) for i in limited]
        rows.append(per * (E + (A[limited] * E - eps) * unit[limited] * s[ids]) - p[ids])
        self.unit, self.A, self.K = unit, A, K
        s_min = v["q_min"] / (1 - A * v["q_min"]) / unit
        s_max = np.where(A < 1, 1 / np.maximum(1 - A, 1e-12), 1e9) / unit
        self.solver = casadi.nlpsol(
            "ipopt", "ipopt",
            {"x": casadi.vertcat(s, b, p), "f": -casadi.dot(v["alpha"], q), "g": casadi.vertcat(*rows)},
            {"ipopt.print_level": 0, "print_time": 0, "ipopt.tol": 1e-10, "ipopt.sb": "yes"},
        )  # fmt: skip
        self.given: dict[str, Any] = {
            "x0": np.concatenate([np.full(K, 0.1), np.ones(K), np.full(K, 0.5)]),
            "lbx": np.concatenate([s_min, np.full(K, 1e-9), np.zeros(K)]),
            "ubx": np.concatenate([np.maximum(s_max, s_min), np.full(K, np.inf), np.ones(K)]),
            "lbg": 0.0,
            "ubg": np.inf,
        }

    def solve(self) -> Allocation:
        x = np.asarray(self.solver(**self.given)["x"]).ravel()
        s, b, p = x[: self.K] * self.unit, x[self.K : 2 * self.K], x[2 * self.K :]
        return 1 - s / (1 + self.A * s), b * self.v["B"] / self.K, p * self.v["P"]


class Parametrised:
    """CVXPY with the device data as parameters (DPP), compiled once: `solve` sets them and re-solves by Clarabel."""

    def __init__(self, problem: ka.Problem) -> None:
        import cvxpy as cp

        v = physical(problem)
        self.v, self.K = v, len(v["T"])
        K = self.K
        s, b, p, lost = (cp.Variable(K) for _ in range(4))
        self.par = {
            n: cp.Parameter(K) for n in ("root", "c", "snr", "demand0", "demand1", "gain", "low", "high", "e0", "e1")
        }
        m = self.par
        affine = 1.0 + cp.multiply(m["c"], s)
        offered = -cp.rel_entr(b, b + p)
        constraints = [
            cp.SOC(affine + lost, cp.vstack([2.0 * cp.multiply(m["root"], s), affine - lost]), axis=0),
            m["demand0"] + cp.multiply(m["demand1"], s) <= offered,
            cp.sum(b) <= K, b >= 0, p >= 0, p <= m["snr"], s >= m["low"], s <= m["high"],
            p <= m["e0"] + cp.multiply(m["e1"], s),
        ]  # fmt: skip
        self.s, self.b, self.p = s, b, p
        self.program = cp.Problem(cp.Maximize(m["gain"] @ (s - lost)), constraints)
        self.solve()

    def solve(self) -> Allocation:
        import cvxpy as cp

        v, K = self.v, self.K
        A, T = v["a"] / v["T"], v["T"]
        snr = v["g"] * v["P"] / (v["B"] / K)
        nats = T * v["B"] / K / LN2
        unit = np.minimum(nats * np.log1p(snr) / (v["S"] + A * v["S0"]), 1 / np.maximum(1 - A, 1e-3))
        limited = np.isfinite(v["E"])
        E = np.where(limited, v["E"], 0.0)
        per = snr * v["eta"] / (T * v["P"])
        c = A * unit
        values = {
            "root": np.sqrt(c), "c": c, "snr": snr, "demand0": v["S0"] / nats,
            "demand1": unit * (v["S"] + A * v["S0"]) / nats, "gain": v["alpha"] * unit * K,
            "low": v["q_min"] / (1 - A * v["q_min"]) / unit,
            "high": np.where(A < 1, 1 / np.maximum(1 - A, 1e-12), 1e6) / unit,
            "e0": np.where(limited, per * E, 2 * snr), "e1": np.where(limited, per * (A * E - v["eps"]) * unit, 0.0),
        }  # fmt: skip
        for name, value in values.items():
            self.par[name].value = value
        try:
            self.program.solve(solver="CLARABEL")
        except cp.SolverError:  # it breaks off: no answer
            return (np.full(K, np.nan),) * 3
        s = unit * np.maximum(self.s.value, 0.0)
        p = np.clip(self.p.value / snr, 0, 1)
        return 1 - s / (1 + A * s), np.maximum(self.b.value, 0) * v["B"] / K, p * v["P"]


def repaired(problem: ka.Problem, bandwidth_hz: np.ndarray) -> float:
    """Gap to the certified optimum once a peer's bandwidths are made exactly feasible; inf where it has no answer."""
    if not np.isfinite(bandwidth_hz).all():
        return float("inf")
    v = physical(problem)
    b = bandwidth_hz * min(1.0, v["B"] / bandwidth_hz.sum())
    if (b < floor_bandwidth_hz(problem)).any():
        return float("inf")
    q = np.maximum(best_keep_ratio(v, b), v["q_min"])
    return float(v["alpha"] @ (1 - q)) - float(ka.solve(problem).objective)
