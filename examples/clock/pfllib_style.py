"""A loop of server and client objects as PFLlib has it, with a radio clock: the lines marked `# clock` are new."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode  # clock

import kktalloc as ka  # clock
from kktalloc import channel, radio  # clock


class Client:
    """Trains on its own data, beginning with what the server sent."""

    def __init__(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int = 4, batch: int = 16) -> None:
        self.model, self.x, self.y, self.steps, self.batch = copy.deepcopy(model), x, y, steps, batch
        self.train_samples = len(y)
        with FlopCounterMode(display=False) as counter:  # clock
            nn.functional.cross_entropy(self.model(x[:batch]), y[:batch]).backward()  # clock
        self.flops = steps * counter.get_total_flops()  # clock

    def set_parameters(self, model: nn.Module) -> None:
        """Take over the server's model."""
        self.model.load_state_dict(model.state_dict())

    def train(self) -> None:
        """Local steps."""
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        for _ in range(self.steps):
            batch = torch.randint(self.train_samples, (self.batch,))
            optimizer.zero_grad()
            nn.functional.cross_entropy(self.model(self.x[batch]), self.y[batch]).backward()
            optimizer.step()


class Server:
    """Sends, waits, averages."""

    def __init__(self, model: nn.Module, clients: list[Client]) -> None:
        self.global_model, self.clients = model, clients
        bits = 32 * sum(p.numel() for p in model.parameters())  # clock
        flops = np.array([client.flops for client in clients], dtype=float)  # clock
        self.work = radio.Work(flops, bits, overhead_bits=128, broadcast_bits=bits + 128)  # clock
        phones = radio.Phones(flop_per_s=2e8, joule_per_flop=1e-9, tx_power_max_w=0.2)  # clock
        self.clock = radio.Clock(ka.Cell(1e6, 4e-21, deadline_s=1.0), phones, broadcast_bit_per_s=2e7)  # clock
        self.rs_time_s, self.rs_energy_j = [], []  # clock

    def train(self, rounds: int) -> None:
        """All rounds; `rs_time_s` and `rs_energy_j` have what each took."""
        total = sum(client.train_samples for client in self.clients)
        for t in range(rounds):
            for client in self.clients:
                client.set_parameters(self.global_model)
                client.train()
            states = [(client.train_samples / total, client.model.state_dict()) for client in self.clients]
            self.global_model.load_state_dict({n: sum(w * s[n] for w, s in states) for n in states[0][1]})
            gain = 1e-11 * channel.rayleigh_mrc(np.random.default_rng(t), len(self.clients), antennas=4)  # clock
            cost = self.clock.unpruned(self.work, gain)  # clock
            self.rs_time_s.append(float(cost.round_s)), self.rs_energy_j.append(float(cost.energy_j.sum()))  # clock


def main(rounds: int = 3) -> Server:
    """Six clients on made-up data."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 3))
    clients = [Client(model, torch.randn(80, 20), torch.randint(3, (80,))) for _ in range(6)]
    server = Server(model, clients)
    server.train(rounds)
    print(f"{sum(server.rs_time_s):.2f} s, {sum(server.rs_energy_j):.2f} J")
    return server


if __name__ == "__main__":
    main()
