"""The Flower app with nodes that answer in this process."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flower_cases import RUN, in_process, split_prune
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

import fltrain as ft
import fltrain.engine
from fltrain import _flower_device, _flower_wire, flower


class DirectGrid:
    """Nodes 100, 101, ... that answer at once, through the real ClientApp."""

    def __init__(self, run: dict[str, Any] = RUN, state_dir: Path | None = None) -> None:
        TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1  # the runtime would have said who we are
        self.app = flower.client_app(split_prune.set_up)
        self.contexts = {
            100 + k: Context(
                run_id=1,
                node_id=100 + k,
                node_config={"partition-id": k} | ({"state-dir": str(state_dir)} if state_dir else {}),
                state=RecordDict(),
                run_config=run,
            )
            for k in range(run["devices"])
        }
        self.asked: list[tuple[str, int]] = []
        self.deaf: Callable[[str, int], bool] = lambda kind, node: False
        self.alter: Callable[[str, int, RecordDict], RecordDict | None] = lambda kind, node, content: content

    def get_node_ids(self) -> Iterable[int]:
        return list(self.contexts)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float) -> Iterator[Message]:
        for message in reversed(list(messages)):  # answers come in any order
            kind, node = message.metadata.message_type, message.metadata.dst_node_id
            self.asked.append((kind, node))
            if self.deaf(kind, node):
                continue
            reply = self.app(message, self.contexts[node])
            content = self.alter(kind, node, reply.content)
            if content is not None:
                reply.content = content
                yield reply


def serve(grid: Any, run: dict[str, Any] = RUN, **options: Any) -> ft.History:
    split, _, config = split_prune.federation(run)
    return flower.serve(grid, split, config, split_prune.allocator(run), run["devices"], gather_s=0.0, **options)


def kept(grid: DirectGrid, k: int) -> list[ft.PersonalState]:
    context = grid.contexts[100 + k]
    return list(_flower_device._kept(context, split_prune.set_up(context)).values())


def same(a: ft.PersonalState, b: ft.PersonalState) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.tensors(), b.tensors(), strict=True))


def nth_upload_of(device: int, n: int, change: Callable[[RecordDict], RecordDict | None]) -> Callable[..., Any]:
    """Alters the n-th upload (from 0) of one device, and no other answer."""
    seen: list[int] = []

    def alter(kind: str, node: int, content: RecordDict) -> RecordDict | None:
        if (kind, node) == (MessageType.TRAIN, 100 + device):
            seen.append(node)
            if len(seen) == n + 1:
                return change(content)
        return content

    return alter


def test_batch_sizes_of_their_own_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = split_prune.federation

    def own(run: Any, sizes: tuple[int, ...] = (2, 32, 9)) -> Any:
        split, shares, config = usual(run)
        return split, shares, replace(config, batch_size=sizes)

    alike = in_process().records
    monkeypatch.setattr(split_prune, "federation", own)
    expected = in_process().records
    assert serve(DirectGrid()).records == expected != alike
    monkeypatch.setattr(split_prune, "federation", lambda run: own(run, (4, 32)))
    with pytest.raises(ValueError, match=r"^batch_size has numbers for 2 devices, there are 3$"):
        serve(DirectGrid())
    split, shares, config = own(RUN, (4, 32))
    with pytest.raises(ValueError, match=r"^batch_size has numbers for 2 devices, none for device 2$"):
        flower.Device(2, split, shares[2], config, lambda t: 1.0)


def test_messages_carry_the_in_process_run_bit_for_bit() -> None:
    grid, expected = DirectGrid(), in_process()
    history = serve(grid)
    assert history.records == expected.records
    assert torch.equal(history.u, expected.u)
    assert 0.0 < expected.records[0]["mean_pruning_ratio"] < 1.0  # masks did travel
    assert not torch.equal(history.u, split_prune.federation(RUN)[0].initial_global())
    assert history.personal == []
    for k, state in enumerate(expected.personal):
        assert len(kept(grid, k)) == 2
        assert any(same(state, other) for other in kept(grid, k))
    kinds = [kind for kind, _ in grid.asked]  # reports once at the start, then they come with the uploads
    assert kinds.count(MessageType.QUERY) == 3
    assert kinds.count(MessageType.TRAIN) == 9
    assert kinds.count(MessageType.EVALUATE) == 3


@pytest.mark.parametrize("kinds", [("sparse",), ("frozen",), ("frozen", "sparse")])
def test_kinds_of_round_reports_and_what_was_left_unsent_travel(
    kinds: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan says the kind; the next plan hangs on what devices reported, and the next upload on what was unsent."""
    plain = split_prune.federation

    def federation(run: Any) -> Any:
        split, shares, config = plain(run)
        return split, shares, replace(config, update=kinds[0], error_feedback=True, averaging="fill", server_rate=1.5)

    def planned(t: int, workload: ft.Workload, gain: Any = None) -> ft.RoundPlan:
        ratio = np.full(3, 0.9)
        if workload.changes is not None:
            size = workload.changes.change_sq
            ratio = 0.9 - 0.4 * size / size.max() + 0.05 * workload.changes.error[:, 8]
        return ft.RoundPlan(ratio, np.ones(3), np.ones(3), np.ones(3, dtype=bool), kinds[t % len(kinds)])

    monkeypatch.setattr(split_prune, "federation", federation)
    monkeypatch.setattr(split_prune, "allocator", lambda run: planned)
    grid = DirectGrid()
    history = serve(grid)
    split, shares, config = federation(RUN)
    expected = ft.train(split, shares, config, planned, progress=False)
    assert history.records == expected.records
    assert torch.equal(history.u, expected.u)
    assert [r["update"] for r in history.records] == [kinds[t % len(kinds)] for t in range(3)]
    assert len({r["mean_pruning_ratio"] for r in history.records}) == 3  # the reports came
    assert all(r["error_curve"] for r in history.records)
    for k, state in enumerate(expected.personal):
        assert any(same(state, other) for other in kept(grid, k))
        assert bool(state.unsent.numel() and state.unsent.any()) == ("sparse" in kinds)


def test_batch_norm_statistics_and_partial_participation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Buffers stay in the context; only drawn devices are asked for their channel."""
    plain = split_prune.federation

    def federation(run: Any) -> Any:
        _, shares, config = plain(run)
        model = ft.build_model("cnn_bn", ft.load_digits())
        config = replace(config, participation=0.67, evaluate_every=1, pruned_steps=2, personal_steps=1)
        return ft.Split(model, ("head",)), shares, config

    monkeypatch.setattr(split_prune, "federation", federation)
    run = RUN | {"bandwidth-hz": 1e7, "deadline-s": 20.0}
    grid, expected = DirectGrid(run), in_process(run)
    assert serve(grid, run).records == expected.records
    assert [r["participants"] for r in expected.records] == [2, 2, 2]
    for k, state in enumerate(expected.personal):
        assert len(state.buffers) == 18
        assert any(same(state, other) for other in kept(grid, k))
    assert [kind for kind, _ in grid.asked].count(MessageType.QUERY) <= 3 + 2


@pytest.mark.parametrize("failure", ["lost", "nan", "nothing"])
def test_a_refused_upload_changes_nothing_on_the_device_either(
    failure: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Device 1 trained in round 1, but its answer got lost or is refused: as in the loop in one process."""
    honest = fltrain.engine.device_round

    def failing(*args: Any) -> Any:
        upload = honest(*args)
        if (upload.device, args[6]) != (1, 1):
            return upload
        if failure == "nan":
            return replace(upload, values=upload.values * math.nan)
        return replace(upload, values=None, bits=0.0)

    monkeypatch.setattr(fltrain.engine, "device_round", failing)
    expected, grid = in_process(), DirectGrid()
    if failure == "lost":
        grid.alter = nth_upload_of(1, 1, lambda content: None)
    else:
        monkeypatch.setattr(_flower_device, "device_round", failing)
    caplog.clear()
    history = serve(grid)
    assert [r["left_out"] for r in history.records] == [[], [1], []]
    reason = "sent values that are not finite" if failure == "nan" else "sent nothing"
    assert f"round 1: device 1 left out: {reason}" in caplog.text
    assert history.records == expected.records
    assert torch.equal(history.u, expected.u)


def altered(record: str, value: Any) -> Callable[[RecordDict], RecordDict]:
    def change(content: RecordDict) -> RecordDict:
        if value is None:
            del content[record]
        else:
            content[record] = value
        return content

    return change


def about(**change: Any) -> Callable[[RecordDict], RecordDict]:
    def alter(content: RecordDict) -> RecordDict:
        content["about"] = MetricRecord({**content["about"]} | change)
        return content

    return alter


def sent(*arrays: np.ndarray[Any, Any]) -> Callable[[RecordDict], RecordDict]:
    return altered("sent", ArrayRecord(numpy_ndarrays=list(arrays)))


N = split_prune.federation(RUN)[0].n_global
ALL = np.packbits(np.ones(N, dtype=bool))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: RecordDict(), r"sent a malformed about: KeyError\('about'\)"),
        (altered("about", ConfigRecord({"loss": "high"})), r"sent a malformed about: ValueError"),
        (altered("sent", ConfigRecord({"u": 1.0})), r"sent a malformed sent: AttributeError"),
        (about(label=0), r"sent a malformed about: "),
        (about(label=0.5), r"sent a malformed about: "),
        (about(bits=math.nan), r"sent a malformed about: "),
        (about(pruning_error_sq=-1.0), r"sent a malformed about: "),
        (about(loss=math.inf), r"left out: reported the loss inf"),
        (sent(), r"sent a malformed sent: no arrays"),
        (sent(np.ones(N - 1, np.float32)), rf"left out: sent shape \({N - 1},\), expected \({N},\)"),
        (sent(np.ones((N, 1), np.float32)), rf"left out: sent shape \({N}, 1\), expected"),
        (sent(np.ones(N)), r"sent 1 arrays, the first of float64; expected float32, then a mask"),
        (sent(np.ones(N, np.float32), ALL, ALL), r"sent 3 arrays, the first of float32"),
        (sent(np.ones(N, np.float32), ALL[:-1]), r"sent a mask of uint8 \(\d+,\), expected one bit for each of"),
        (sent(np.ones(N - 1, np.float32), ALL), rf"sent values of shape \({N - 1},\) for a mask that keeps {N}"),
        (sent(np.full(N, np.nan, np.float32), ALL), r"left out: sent values that are not finite"),
    ],
)
def test_a_malformed_upload_is_left_out(change: Any, message: str, caplog: pytest.LogCaptureFixture) -> None:
    run = RUN | {"rounds": 2}
    grid = DirectGrid(run)
    grid.alter = nth_upload_of(1, 0, change)
    history = serve(grid, run)
    assert [r["left_out"] for r in history.records] == [[1], []]
    assert caplog.text.count("round 0: device 1 left out: ") == 1
    with_message = [r.getMessage() for r in caplog.records if "device 1" in r.getMessage()]
    assert any(re.search(message, line) for line in with_message), with_message
    history.to_json()  # strict JSON: nothing of it came through


@pytest.mark.parametrize("gain", [math.nan, -1.0, 0.0, math.inf])
def test_an_impossible_channel_takes_no_part(gain: float, caplog: pytest.LogCaptureFixture) -> None:
    grid = DirectGrid()
    grid.alter = nth_upload_of(1, 0, about(next_channel_gain=gain))
    history = serve(grid)
    expected = in_process(absent=lambda t: [1] * (t == 1))
    assert history.records == expected.records
    assert f"round 1: device 1 takes no part: it reported the channel gain {gain}" in caplog.text


def test_a_device_that_falls_silent_is_left_out_and_may_come_back(caplog: pytest.LogCaptureFixture) -> None:
    """Device 1 does not hear its second training message; it is asked again and takes part in the third."""
    grid = DirectGrid()
    seen: list[int] = []

    def deaf(kind: str, node: int) -> bool:
        if kind == MessageType.TRAIN and node == 101:
            seen.append(node)
            return len(seen) == 2
        return False

    grid.deaf = deaf
    history = serve(grid)
    assert [r["left_out"] for r in history.records] == [[], [1], []]
    assert "round 1: device 1 left out: sent nothing" in caplog.text


def test_a_dead_device_takes_no_part() -> None:
    grid = DirectGrid()
    trained: list[int] = []

    def deaf(kind: str, node: int) -> bool:
        trained.extend([node] * (kind == MessageType.TRAIN and node == 102))
        return node == 102 and (len(trained) > 1 or (len(trained) == 1 and kind != MessageType.TRAIN))

    grid.deaf = deaf
    history = serve(grid, RUN | {"rounds": 4})
    assert [r["left_out"] for r in history.records] == [[], [2], [], []]
    assert [r["participants"] for r in history.records] == [3, 3, 2, 2]
    assert history.records[-1]["accuracy_per_device"][2] is None
    assert history.records[-1]["accuracy"] is not None


def test_a_node_that_goes_offline_is_not_waited_for() -> None:
    grid = DirectGrid()

    def alter(kind: str, node: int, content: RecordDict) -> RecordDict:
        if (kind, node) == (MessageType.TRAIN, 102):
            del grid.contexts[102]
        return content

    grid.alter = alter
    history = serve(grid)
    assert [r["participants"] for r in history.records] == [3, 2, 2]
    assert [r["left_out"] for r in history.records] == [[], [], []]


def test_missing_devices_are_named() -> None:
    grid = DirectGrid()
    del grid.contexts[101]
    with pytest.raises(TimeoutError, match=r"^devices \[1\] did not report within 0 s$"):
        serve(grid)


def test_a_round_without_any_node_online_ends_the_run() -> None:
    grid = DirectGrid()

    def alter(kind: str, node: int, content: RecordDict) -> RecordDict:
        if kind == MessageType.TRAIN:
            grid.contexts.pop(node)
        return content

    grid.alter = alter
    with pytest.raises(TimeoutError, match=r"^no device has been online for 0 s$"):
        serve(grid)


def test_two_nodes_that_say_they_are_one_device(caplog: pytest.LogCaptureFixture) -> None:
    grid = DirectGrid()
    grid.contexts[102].node_config["partition-id"] = 1
    with pytest.raises(TimeoutError, match=r"^devices \[2\] did not report"):
        serve(grid)
    assert "says it is device 1, which is out of range or taken" in caplog.text


@pytest.mark.parametrize("change", [{"samples": 0}, {"pruned_flops": math.nan}, {"payload_bits": -1.0}])
def test_impossible_work_counts_as_no_report(change: dict[str, float], caplog: pytest.LogCaptureFixture) -> None:
    grid = DirectGrid()

    def alter(kind: str, node: int, content: RecordDict) -> RecordDict:
        if node == 101:
            content["report"] = MetricRecord({**content["report"]} | change)
        return content

    grid.alter = alter
    with pytest.raises(TimeoutError, match=r"^devices \[1\] did not report"):
        serve(grid)
    assert "node 101 reported impossible work" in caplog.text


def test_labels_survive_the_journey() -> None:
    for value in (0, 1, _flower_wire.LABELS - 1):
        assert _flower_wire.label(_flower_wire.reference(value)) == value
        content = RecordDict({"ask": ConfigRecord({"label": value})})
        assert int(_flower_wire.numbers(content, "ask", ["label"])["label"]) == value
