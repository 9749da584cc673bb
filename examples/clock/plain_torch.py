"""Federated averaging in plain torch, with seconds and joules of every round: lines marked `# clock` are new."""

from __future__ import annotations

import copy

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.flop_counter import FlopCounterMode  # clock

import kktalloc as ka  # clock
from kktalloc import channel, radio  # clock

DEVICES, STEPS, BATCH, RATE = 5, 8, 32, 0.1


def main(rounds: int = 3) -> tuple[nn.Module, float, float]:
    """Train; returns the model, and the seconds and joules that it took."""
    torch.manual_seed(0)
    digits = load_digits()
    x, y = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    shares = torch.arange(len(y)).chunk(DEVICES)
    model, loss = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)), nn.CrossEntropyLoss()
    rng = np.random.default_rng(0)  # clock
    gain = 1e-11 * channel.rayleigh_mrc(rng, (rounds, DEVICES), antennas=4)  # clock
    phones = radio.Phones(flop_per_s=2e8, joule_per_flop=1e-9, tx_power_max_w=0.2)  # clock
    clock = radio.Clock(ka.Cell(1e6, 4e-21, deadline_s=1.0), phones, broadcast_bit_per_s=2e7)  # clock
    with FlopCounterMode(display=False) as counter:  # clock
        loss(model(x[:BATCH]), y[:BATCH]).backward()  # clock
    bits = 32 * sum(p.numel() for p in model.parameters())  # clock
    work = radio.Work(STEPS * counter.get_total_flops(), bits, overhead_bits=128, broadcast_bits=bits + 128)  # clock
    seconds = joules = 0.0  # clock
    for t in range(rounds):
        locals_ = []
        for share in shares:
            local = copy.deepcopy(model)
            optimizer = torch.optim.SGD(local.parameters(), lr=RATE)
            for _ in range(STEPS):
                batch = share[torch.randint(len(share), (BATCH,))]
                optimizer.zero_grad()
                loss(local(x[batch]), y[batch]).backward()
                optimizer.step()
            locals_.append(local.state_dict())
        model.load_state_dict({name: sum(s[name] for s in locals_) / DEVICES for name in locals_[0]})
        cost = clock.unpruned(work, gain[t])  # clock
        seconds, joules = seconds + float(cost.round_s), joules + float(cost.energy_j.sum())  # clock
        print(f"round {t}: {seconds:.2f} s, {joules:.2f} J")
    return model, seconds, joules


if __name__ == "__main__":
    main()
