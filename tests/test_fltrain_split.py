from __future__ import annotations

import pytest
import torch
from fltrain_cases import TinyModel, digits
from torch import nn

import fltrain as ft
from fltrain.replica import Replica


def test_parts_are_disjoint_and_whole() -> None:
    model = ft.build_model("cnn", digits())
    split = ft.Split(model, personal=("conv1.bias", "head"))
    assert split.personal_names == ("conv1.bias", "head.weight", "head.bias")
    assert set(split.global_names) | set(split.personal_names) == {n for n, _ in model.named_parameters()}
    assert split.n_global + split.n_personal == sum(p.numel() for p in model.parameters())
    assert split.n_personal == 16 + 650


def test_a_prefix_matches_whole_names_only() -> None:
    model = nn.ModuleDict({"head": nn.Linear(2, 2), "header": nn.Linear(2, 2)})
    assert ft.Split(model, personal=("head",)).personal_names == ("head.weight", "head.bias")


@pytest.mark.parametrize(
    ("personal", "message"),
    [
        (("tail",), r"^personal names 'tail', which is no parameter of w, b$"),
        ("b", r"^personal must be a sequence of names, got the string 'b'$"),
        (("w", "b"), r"^personal=\('w', 'b'\) leaves no global parameter to share$"),
    ],
)
def test_bad_split_is_refused(personal: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ft.Split(TinyModel([1.0, 2.0, 3.0]), personal)


def test_other_types_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^parameter w must be float32 on the CPU, got torch.float64"):
        ft.Split(TinyModel([1.0, 2.0, 3.0]).double(), ())


def test_constants_belong_to_neither_part() -> None:
    model = TinyModel([1.0, 2.0, 3.0])
    model.b.requires_grad_(False)
    split = ft.Split(model, ())
    assert split.global_names == ("w",)


def test_users_model_is_not_touched() -> None:
    model = TinyModel([1.0, 2.0, 3.0])
    split = ft.Split(model, ("b",))
    replica = Replica(split)
    replica.u.fill_(9.0)
    replica.train_only(train_u=False, train_v=True)
    assert model.w.tolist() == [1.0, 2.0, 3.0]
    assert model.w.requires_grad
    assert split.initial_global().tolist() == [1.0, 2.0, 3.0]


def test_replica_views_follow_the_flat_vectors() -> None:
    split = ft.Split(ft.build_model("cnn", digits(), seed=3), ("head",))
    replica = Replica(split)
    u, personal = torch.randn(split.n_global), split.initial_personal()
    replica.load(u, personal)
    named = dict(replica.model.named_parameters())
    assert torch.equal(torch.cat([named[n].flatten() for n in split.global_names]), u)
    x = torch.from_numpy(digits().x[:8])
    before = replica.model(x)
    replica.u.mul_(2.0)
    assert not torch.equal(replica.model(x), before)
    parameters = replica.train_only(train_u=True, train_v=False)
    assert all(p is named[n] for p, n in zip(parameters, split.global_names, strict=True))
    assert [n for n, p in named.items() if p.requires_grad] == list(split.global_names)
    with torch.no_grad():
        named["head.bias"].fill_(7.0)
    assert replica.v[-10:].tolist() == [7.0] * 10


def test_assembled_model_predicts_and_is_independent() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 10)).eval()
    split = ft.Split(model, ("3",))
    x = torch.from_numpy(digits().x[:4])
    u, personal = split.initial_global(), split.initial_personal()
    one = split.assemble(u, personal).eval()
    assert torch.equal(one(x), model(x))
    u.zero_()
    personal.buffers[0].fill_(7.0)
    assert torch.equal(one(x), model(x))
