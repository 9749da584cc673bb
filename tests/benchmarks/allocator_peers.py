"""The allocation problem in the hands of general-purpose solvers, for benchmarks: each returns rho, b, p."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from independent import best_keep_ratio, floor_bandwidth_hz, physical
from scipy.optimize import minimize

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


def clocked_cell_of(devices: int) -> tuple[ka.Cell, ka.Devices]:
    """The same cell, whose devices choose their clock and pay for the electronics that run while they send."""
    cell, plain = cell_of(devices)
    return cell, replace(plain, clock_min=0.3, clock_max=2.0, circuit_power_w=0.05)


class Scaled:
    """The reduced form in numbers near 1: z = (s, b, p), bandwidth in equal shares, power in peaks, s in what a share
    carries at peak power.

    The rate row is ``b ln(1 + snr p / b) / ln(1 + snr) >= demand0 + demand1 s``, the energy row ``p <= e0 + e1 s``.
    """

    def __init__(self, problem: ka.Problem) -> None:
        self.v = v = physical(problem)
        self.K = K = len(v["T"])
        self.A = A = v["a"] / v["T"]
        self.snr = v["g"] * v["P"] / (v["B"] / K)
        share_bits = v["T"] * v["B"] / K * np.log2(1 + self.snr)
        most = np.where(A < 1, 1 / np.maximum(1 - A, 1e-3), np.inf)
        self.unit = unit = np.minimum(share_bits / (v["S"] + A * v["S0"]), most)
        self.demand0, self.demand1 = v["S0"] / share_bits, unit * (v["S"] + A * v["S0"]) / share_bits
        self.limited = limited = np.flatnonzero(np.isfinite(v["E"]))
        per = v["eta"][limited] / (v["T"] * v["P"])[limited]
        E = v["E"][limited]
        self.e0, self.e1 = per * E, per * (A[limited] * E - v["eps"][limited]) * unit[limited]
        low = v["q_min"] / (1 - A * v["q_min"]) / unit
        high = np.where(A < 1, 1 / np.maximum(1 - A, 1e-12), 1e9) / unit
        self.low = np.concatenate([low, np.full(K, 1e-9), np.zeros(K)])
        self.high = np.concatenate([np.maximum(high, low), np.full(K, np.inf), np.ones(K)])
        self.start = np.concatenate([np.full(K, 0.1), np.ones(K), np.full(K, 0.5)])

    def allocation(self, z: np.ndarray) -> Allocation:
        s, b, p = z.reshape(3, self.K)
        s = s * self.unit
        return 1 - s / (1 + self.A * s), b * self.v["B"] / self.K, p * self.v["P"]


class Ipopt:
    """IPOPT on the reduced form through CasADi, built once: only `solve` is timed."""

    def __init__(self, problem: ka.Problem) -> None:
        import casadi

        self.form = f = Scaled(problem)
        s, b, p = (casadi.MX.sym(n, f.K) for n in "sbp")
        q = f.unit * s / (1 + f.A * f.unit * s)
        ids = [int(i) for i in f.limited]
        rows = [
            b * casadi.log1p(f.snr * p / b) / np.log1p(f.snr) - f.demand0 - f.demand1 * s,
            1 - casadi.sum1(b) / f.K,
            f.e0 + f.e1 * s[ids] - p[ids],
        ]
        self.solver = casadi.nlpsol(
            "ipopt", "ipopt",
            {"x": casadi.vertcat(s, b, p), "f": -casadi.dot(f.v["alpha"], q), "g": casadi.vertcat(*rows)},
            {"ipopt.print_level": 0, "print_time": 0, "ipopt.tol": 1e-10, "ipopt.sb": "yes"},
        )  # fmt: skip

    def solve(self) -> Allocation:
        f = self.form
        z = self.solver(x0=f.start, lbx=f.low, ubx=f.high, lbg=0.0, ubg=np.inf)["x"]
        self.status = str(self.solver.stats()["return_status"])
        return f.allocation(np.asarray(z).ravel())


class Slsqp:
    """SciPy's SLSQP on the reduced form, with derivatives: dense, so for few devices."""

    def __init__(self, problem: ka.Problem) -> None:
        self.form = Scaled(problem)

    def value(self, z: np.ndarray) -> tuple[float, np.ndarray]:
        f = self.form
        s = z[: f.K] * f.unit
        room = 1 + f.A * s
        return -float(f.v["alpha"] @ (s / room)), np.concatenate([-f.v["alpha"] * f.unit / room**2, np.zeros(2 * f.K)])

    def rows(self, z: np.ndarray) -> np.ndarray:
        f = self.form
        s, b, p = z.reshape(3, f.K)
        carried = b * np.log1p(f.snr * p / b) / np.log1p(f.snr) - f.demand0 - f.demand1 * s
        return np.concatenate([carried, [1 - b.sum() / f.K], f.e0 + f.e1 * s[f.limited] - p[f.limited]])

    def slopes(self, z: np.ndarray) -> np.ndarray:
        f = self.form
        _, b, p = z.reshape(3, f.K)
        x, nats = f.snr * p / b, np.log1p(f.snr)
        rate = np.hstack([np.diag(d) for d in (-f.demand1, (np.log1p(x) - x / (1 + x)) / nats, f.snr / (1 + x) / nats)])
        shared = np.concatenate([np.zeros(f.K), np.full(f.K, -1 / f.K), np.zeros(f.K)])
        energy = np.zeros((f.limited.size, 3 * f.K))
        row = np.arange(f.limited.size)
        energy[row, f.limited], energy[row, 2 * f.K + f.limited] = f.e1, -1.0
        return np.vstack([rate, shared, energy])

    def solve(self) -> Allocation:
        f = self.form
        found = minimize(
            self.value, f.start, jac=True, method="SLSQP", bounds=list(zip(f.low, f.high, strict=True)),
            constraints={"type": "ineq", "fun": self.rows, "jac": self.slopes}, options={"maxiter": 500, "ftol": 1e-12},
        )  # fmt: skip
        self.status = str(found.message)
        return f.allocation(found.x)


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
            self.status = "solver_error"
            return (np.full(K, np.nan),) * 3
        self.status = str(self.program.status)
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
