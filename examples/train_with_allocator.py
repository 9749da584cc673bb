"""Train with the allocator: your arrays, your network, your split, phones on a radio."""

import numpy as np
import torch
from torch import nn

import fltrain as ft
import kktalloc as ka
from fltrain.adapt import AdaptivePlanner
from fltrain.radio import Radio, RadioPlanner, Unpruned
from kktalloc.links import Fading
from kktalloc.radio import Phones

PEOPLE, RECORDINGS, WINDOWS = 8, 6, 10
# Your data: windows (N, axes, samples), what was done, by whom, in which recording. `ft.load_npz` reads files.
rng = np.random.default_rng(0)
person = np.repeat(np.arange(PEOPLE), RECORDINGS * WINDOWS)
recording = np.tile(np.repeat(np.arange(RECORDINGS), WINDOWS), PEOPLE)
rate = np.array([0.8, 1.7, 2.6])[recording % 3] * (1 + 0.04 * (person - 4))
angle = 2 * np.pi * rate[:, None] * np.arange(64) / 20 + rng.uniform(0, 2 * np.pi, (len(person), 1))
windows = np.stack([np.sin(angle), np.cos(angle), rng.normal(0, 0.5, angle.shape)], axis=1)
data = ft.Dataset("motion", windows, recording % 3, classes=3)

# Your split: the later recordings of each person are held out, whole, so that nothing leaks.
train = [np.flatnonzero((person == k) & (recording < 3)) for k in range(PEOPLE)]
shares = ft.deal(data, train, test_indices=[np.flatnonzero((person == k) & (recording >= 3)) for k in range(PEOPLE)])

# Your model; the last layer stays on each phone.
torch.manual_seed(0)
body = [nn.Conv1d(3, 16, 7), nn.ReLU(), nn.AdaptiveAvgPool1d(8), nn.Flatten(), nn.Linear(128, 32), nn.ReLU()]
split = ft.Split(nn.Sequential(*body, nn.Linear(32, 3)), personal=("6",))
how = {"learning_rate_global": 0.1, "learning_rate_personal": 0.1, "error_feedback": True}
config = ft.TrainConfig(rounds=40, update="sparse", averaging="fill", batch_size=16, evaluate_every=2, **how)

# Your radio: 200 kHz for all, path gains from weak to strong, fading drawn anew each round.
phones = Phones(flop_per_s=5e8, joule_per_flop=1e-9, tx_power_max_w=0.1)
radio = Radio(ka.Cell(2e5, 4e-21, 1.0), phones, Fading(np.geomspace(2e-13, 5e-12, PEOPLE), antennas=2))
for who in (Unpruned, AdaptivePlanner):
    history = ft.train(split, shares, config, RadioPlanner(radio, who), progress=False)
    print(f"{who.__name__}: 80 % after {history.time_to_accuracy(0.8):.1f} s, {config.rounds} rounds run")
