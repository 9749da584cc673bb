"""Devices that lie, through the real ClientApp and by hand: each is left out and logged, and the run goes on."""

from __future__ import annotations

import io
import math
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flower_cases import RUN, in_process, split_prune
from flwr.app import Array, ArrayRecord, Message, MessageType, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fltrain_flower import DirectGrid, N, about, altered, nth_upload_of, sent, serve

import fltrain as ft
from fltrain import _flower_device, _flower_limits, _flower_wire, checkpoint, flower
from fltrain.curve import ERROR_RATIOS, ChangeReport
from fltrain.local import Upload, sent_bits

SHORT = RUN | {"rounds": 2}


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def header(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


def raw(data: bytes, stype: str = "numpy.ndarray") -> ArrayRecord:
    return ArrayRecord({"0": Array("float32", (N,), stype, data)})


GOOD = npy(np.ones(N, np.float32))
HOSTILE = {
    "nothing": b"",
    "one byte": b"\x93",
    "40 TB": header((10**13,)),
    "4 GB": header((10**9,)),
    "overflowing": header((2**40, 2**40)),
    "zero times much": header((0, 2**62)) + b"1",
    "negative": header((-5,)),
    "cut": GOOD[:-1],
    "too long": GOOD + b"\0",
    "too many values": npy(np.ones(N + 1, np.float32)),
    "pickle": npy(np.array([print], dtype=object)),
    "zip": b"PK\x03\x04" + b"0" * 60,
    "parentheses": b"\x93NUMPY\x01\x00" + (9000).to_bytes(2, "little") + b"(" * 9000,
    "minus signs": b"\x93NUMPY\x01\x00" + (9990).to_bytes(2, "little") + b"-" * 9989 + b"1",
    "an expression": b"\x93NUMPY\x01\x00\x1b\x00" + b"__import__('os').abort()   \n",
    "another version": b"\x93NUMPY\x09\x00" + GOOD[8:],
    "big endian": npy(np.ones(N, ">f4")),
    "text": npy(np.array(["x"] * N)),
    "dates": npy(np.zeros(N, "M8[s]")),
    "records": npy(np.zeros(N, [("a", "f4")])),
    "complex": npy(np.ones(N, complex)),
    "half": npy(np.ones(N, np.float16)),
    "column order": npy(np.asfortranarray(np.ones((2, N // 2), np.float32))),
    "odd number type": b"".join([header((N,)).replace(b"<f4", b"<f3"), bytes(3 * N)]),
}


def in_turn(changes: Sequence[Callable[[RecordDict], RecordDict]]) -> tuple[ft.History, list[int]]:
    """A run in which device 1 changes its upload in another way each round, and whom it then left out besides."""
    run = RUN | {"rounds": len(changes)}
    grid, rest = DirectGrid(run), iter(changes)

    def alter(kind: str, node: int, content: RecordDict) -> RecordDict:
        return next(rest)(content) if (kind, node) == (MessageType.TRAIN, 101) else content

    grid.alter = alter
    history = serve(grid, run)
    return history, [t for t, record in enumerate(history.records) if record["left_out"] != [1]]


def test_bytes_that_are_no_such_array_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    records = [raw(data) for data in HOSTILE.values()] + [raw(GOOD, "torch.tensor")]
    history, taken = in_turn([altered("sent", record) for record in records])
    assert taken == []
    for t in range(len(records)):
        assert f"round {t}: device 1 sent " in caplog.text
    history.to_json()


@pytest.mark.parametrize("kind", HOSTILE)
def test_reading_such_bytes_is_one_kind_of_error(kind: str) -> None:
    content = RecordDict({"about": MetricRecord({"loss": 1.0, "pruning_error_sq": 0.0, "bits": 10.0, "label": 5.0})})
    content["sent"] = raw(HOSTILE[kind])
    with pytest.raises(ValueError, match=r"^sent "):
        _flower_wire.read_upload(content, 0, N)


def test_more_or_fewer_bytes_than_announced_are_named() -> None:
    for kind in ("cut", "too long"):
        with pytest.raises(ValueError, match=rf"an array of {N} values in {len(HOSTILE[kind])} bytes"):
            _flower_wire.ndarrays(RecordDict({"sent": raw(HOSTILE[kind])}), "sent", N)


def test_what_a_header_announces_is_not_allocated() -> None:
    large = RecordDict({"sent": raw(npy(np.ones(5_000_000, np.float32)))})
    announced = [RecordDict({"sent": raw(header(shape))}) for shape in ((10**9,), (10**13,), (2**40, 2**40))]
    tracemalloc.start()
    try:
        for content in [large, *announced]:
            with pytest.raises(ValueError, match=r"^sent a malformed sent: "):
                _flower_wire.ndarrays(content, "sent", N)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "array",
    [
        np.float32(3.0),
        np.zeros(0, np.float32),
        np.arange(6, dtype=np.int64).reshape(2, 3),
        np.array([True, False]),
        np.arange(24, dtype=np.float64).reshape(2, 3, 4)[:, ::2].copy(),
        np.array(7),
        np.ones((1, 1, 1), np.uint8),
    ],
)
def test_what_is_written_is_read(array: Any) -> None:
    content = RecordDict({"sent": ArrayRecord(numpy_ndarrays=[np.asarray(array)])})
    (back,) = _flower_wire.ndarrays(content, "sent")
    assert (back.dtype, back.shape) == (np.asarray(array).dtype, np.asarray(array).shape)
    np.testing.assert_array_equal(back, array)
    assert back.flags.writeable


@settings(max_examples=300)
@given(st.integers(0, 131), st.binary(min_size=1, max_size=4), st.booleans())
def test_any_changed_header_is_refused_or_says_the_same(at: int, change: bytes, insert: bool) -> None:
    """Whatever stands in a header: an array of exactly the bytes that came, or a refusal; never another exception."""
    whole = npy(np.arange(1.0, 5.0, dtype=np.float32))
    data = whole[:at] + change + whole[at + (0 if insert else len(change)) :]
    content = RecordDict({"sent": raw(data)})
    try:
        (back,) = _flower_wire.ndarrays(content, "sent", 16)
    except ValueError:
        return
    assert back.nbytes <= len(data)


class Explodes(RecordDict):
    """A message whose parts cannot even be looked at."""

    armed = False

    def __getitem__(self, key: str) -> Any:
        if self.armed:
            raise RecursionError("maximum recursion depth exceeded")
        return super().__getitem__(key)


@pytest.mark.parametrize("kind", [MessageType.TRAIN, MessageType.EVALUATE])
def test_any_exception_while_reading_leaves_the_device_out(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    grid = DirectGrid(SHORT)

    def alter(asked: str, node: int, content: RecordDict) -> RecordDict:
        if (asked, node) != (kind, 101):
            return content
        made = Explodes(dict(content))
        made.armed = True
        return made

    grid.alter = alter
    history = serve(grid, SHORT)
    expected = [[1], [1]] if kind == MessageType.TRAIN else [[], []]
    assert [r["left_out"] for r in history.records] == expected
    assert (history.records[-1]["accuracy_per_device"][1] is None) == (kind == MessageType.EVALUATE)
    assert "RecursionError" in caplog.text


@pytest.mark.parametrize(
    "error", [MemoryError(), RecursionError("too deep"), OverflowError("too large"), KeyError("u")]
)
def test_an_error_of_any_kind_in_the_reader_itself_leaves_the_device_out(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What the reader does not foresee, it does not turn into its own kind of error either."""
    honest, run = flower.read_upload, RUN | {"rounds": 1}

    def read(content: Any, device: int, n: int) -> Upload:
        if device == 1:
            raise error
        return honest(content, device, n)

    monkeypatch.setattr(flower, "read_upload", read)
    assert serve(DirectGrid(run), run).records[0]["left_out"] == [1]
    assert f"device 1 sent what cannot be read: {type(error).__name__}" in caplog.text


# Values.


def test_values_out_of_range_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    sizes = [3e38, 1e20, 1e3, math.inf]
    history, taken = in_turn([sent(np.full(N, size, np.float32)) for size in sizes])
    assert taken == []
    assert caplog.text.count("device 1 sent a change of length") == len(sizes)
    assert float(history.u.abs().max()) < 10.0


def test_a_change_unlike_the_others_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """Within the bound on its length, but far longer than what the others send; the limit can be switched off."""
    run, large = RUN | {"rounds": 1}, sent(np.full(N, 5.0, np.float32))
    for limits, left_out in ((None, [1]), (flower.Limits(outlier=math.inf), [])):
        grid = DirectGrid(run)
        grid.alter = nth_upload_of(1, 0, large)
        assert serve(grid, run, limits=limits).records[0]["left_out"] == left_out
    assert caplog.text.count("the limit beside the others is") == 1


def judged(upload: Upload, update: Any = "zeroed", **limits: Any) -> Upload:
    u = torch.ones(16)
    config = ft.TrainConfig(update=update)
    return _flower_limits.judge_upload(upload, u, update, config, flower.Limits(**limits))[0]


def upload(values: torch.Tensor, mask: torch.Tensor | None = None, **change: Any) -> Upload:
    rest = {"loss": 1.0, "pruning_error_sq": 0.0, "bits": 0.0, "report": None} | change
    return Upload(0, values, mask, _flower_wire.reference(1), **rest)


def test_the_bound_on_a_change_by_hand() -> None:
    """Twice the length of a broadcast part of ones, (16,): 8."""
    judged(upload(torch.full((16,), 3.0)), distance=2.0)
    with pytest.raises(ValueError, match=r"^sent a change of length 8\.04, the limit is 8$"):
        judged(upload(torch.full((16,), 3.01)), distance=2.0)
    mask = torch.arange(16) < 4  # what is not kept is no change, whatever stands there
    judged(upload(torch.full((16,), 5.0) * mask, mask), distance=2.0)
    with pytest.raises(ValueError, match=r"^sent a change of length"):
        judged(upload(torch.full((16,), 5.1) * mask, mask), distance=2.0)
    judged(upload(torch.full((16,), 3e38)), distance=math.inf)


def test_the_server_counts_what_it_can() -> None:
    """Squared error and bits follow from the mask; a claim of them is not looked at."""
    mask = torch.arange(16) < 6
    lying = judged(upload(torch.ones(16) * mask, mask, pruning_error_sq=1e300, bits=1e300))
    assert (lying.pruning_error_sq, lying.bits) == (10.0, sent_bits(16, mask))
    frozen = judged(upload(torch.ones(16) * mask, mask, pruning_error_sq=1e300), "frozen")
    assert frozen.pruning_error_sq == 0.0
    with pytest.raises(ValueError, match=r"^reported an unsent change of squared length"):
        judged(upload(torch.ones(16) * mask, mask, pruning_error_sq=1e300), "sparse")
    assert judged(upload(torch.ones(16) * mask, mask, pruning_error_sq=9.0), "sparse").pruning_error_sq == 9.0


@pytest.mark.parametrize("loss", [-1e308, -1e-3, 1e5])
def test_an_impossible_loss_is_refused(loss: float) -> None:
    with pytest.raises(ValueError, match=r"^reported the loss"):
        judged(upload(torch.ones(16), loss=loss))


@pytest.mark.parametrize(
    ("change_sq", "error"),
    [
        (1e300, ERROR_RATIOS),
        (1.0, ERROR_RATIOS[::-1].copy()),
        (1.0, np.minimum(1.0, 1.5 * ERROR_RATIOS)),
    ],
)
def test_a_curve_that_no_change_has_is_refused(change_sq: float, error: Any) -> None:
    with pytest.raises(ValueError, match=r"^reported a change of squared length .* with a curve that no change has$"):
        judged(upload(torch.ones(16), report=ChangeReport(change_sq, error)), "sparse")
    judged(upload(torch.ones(16), report=ChangeReport(1.0, ERROR_RATIOS**2)), "sparse")


def test_a_gain_that_no_channel_has_takes_no_part(caplog: pytest.LogCaptureFixture) -> None:
    grid = DirectGrid()
    grid.alter = nth_upload_of(1, 0, about(next_channel_gain=1e300))
    expected = in_process(absent=lambda t: [1] * (t == 1))
    assert serve(grid).records == expected.records
    assert "device 1 takes no part: it reported the channel gain 1e+300" in caplog.text


@pytest.mark.parametrize(
    ("field", "value"), [("distance", 0.0), ("loss", -1.0), ("samples", "many"), ("outlier", None)]
)
def test_bad_limits_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{field} must be a number > 0, got "):
        flower.Limits(**{field: value})


# Claims.


def claims(**change: float) -> dict[int, dict[str, float]]:
    own = dict.fromkeys(_flower_wire.WORK, 1e6) | {"samples": 100.0}
    return {0: dict(own), 1: dict(own), 2: own | change}


def believed(config: ft.TrainConfig, **change: float) -> tuple[ft.Workload, list[bool]]:
    work, barred = _flower_limits.believe_reports(
        claims(**change), split_prune.federation(RUN)[0], config, flower.Limits()
    )
    return work, barred.tolist()


def test_a_claimed_number_of_samples_takes_a_bounded_weight(caplog: pytest.LogCaptureFixture) -> None:
    config = ft.TrainConfig(aggregation="samples")
    for claimed, counted in ((300.0, 300.0), (1000.0, 1000.0), (1001.0, 1000.0), (1e308, 1000.0)):
        work, barred = believed(config, samples=claimed)
        np.testing.assert_allclose(work.weight, np.array([100.0, 100.0, counted]) / (200.0 + counted))
        assert barred == [False] * 3
    assert caplog.text.count("and counts as 1000") == 2


def test_claimed_bits_do_not_matter_and_claimed_work_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    config = ft.TrainConfig(batch_size=32)
    for name in ("payload_bits", "overhead_bits", "broadcast_bits"):
        work, barred = believed(config, **{name: 1e308})
        np.testing.assert_array_equal(work.payload_bits, [32.0 * N] * 3)
        assert barred == [False] * 3
    assert believed(config, pruned_flops=32e6)[1] == [False] * 3  # others may hold a single sample
    assert believed(ft.TrainConfig(batch_size=(99, 99, 5)), pruned_flops=6e6)[1] == [False, False, True]
    for name in ("personal_flops", "probe_flops", "pruned_flops"):
        work, barred = believed(config, **{name: 1e308})
        assert barred == [False, False, True]
        assert float(work.pruned_flops.max()) <= 32e6
    assert "device 2 is left out: it claims 1e+308 FLOPs" in caplog.text


def test_a_device_that_claims_too_much_work_takes_no_part() -> None:
    grid = DirectGrid()

    def alter(kind: str, node: int, content: RecordDict) -> RecordDict:
        if kind == MessageType.QUERY and node == 101 and "samples" in content["report"]:
            content["report"] = MetricRecord({**content["report"]} | {"pruned_flops": 1e308})
        return content

    grid.alter = alter
    history = serve(grid)
    expected = in_process(absent=lambda t: [1]).records
    assert [record["not_asked"] for record in history.records] == 3 * [["", flower._BARRED, ""]]
    assert [r | {"not_asked": None} for r in history.records] == [r | {"not_asked": None} for r in expected]


@pytest.mark.parametrize("value", [1e308, 0.5, 99.5])
def test_samples_must_be_whole(value: float, caplog: pytest.LogCaptureFixture) -> None:
    grid = DirectGrid(SHORT)

    def alter(kind: str, node: int, content: RecordDict) -> RecordDict:
        if kind == MessageType.QUERY and node == 101 and "samples" in content["report"]:
            content["report"] = MetricRecord({**content["report"]} | {"samples": value})
        return content

    grid.alter = alter
    if value == 1e308:
        assert len(serve(grid, SHORT).records) == 2
    else:
        with pytest.raises(TimeoutError, match=r"^devices \[1\] did not report"):
            serve(grid, SHORT)


# Identity.


class Crowded(DirectGrid):
    """One more node, 200, that comes online after the start and says it is the device `claims`."""

    def __init__(self, run: dict[str, Any], claims: int) -> None:
        super().__init__(run)
        self.claims = claims
        self.stays: set[int] = {100, 101, 102}
        self.trained = 0

    def get_node_ids(self) -> Iterable[int]:
        return [*(node for node in self.contexts if node in self.stays), *([200] if self.trained else [])]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float) -> Iterator[Message]:
        for message in messages:
            kind, node = message.metadata.message_type, message.metadata.dst_node_id
            if node == 200:
                reply = next(iter(super().send_and_receive([self._to(message, 100 + self.claims)], timeout=timeout)))
                reply.metadata._src_node_id = 200
                self.asked[-1] = (kind, 200)
                yield reply
            else:
                yield from super().send_and_receive([message], timeout=timeout)
        self.trained += any(kind == MessageType.TRAIN for kind, _ in self.asked)

    def _to(self, message: Message, node: int) -> Message:
        return Message(message.content, dst_node_id=node, message_type=message.metadata.message_type)


def test_a_new_node_cannot_take_a_number_that_is_in_use(caplog: pytest.LogCaptureFixture) -> None:
    grid = Crowded(RUN, 1)
    history = serve(grid)
    assert history.records == in_process().records
    assert (MessageType.TRAIN, 200) not in grid.asked
    assert "node 200 says it is device 1, which is out of range or taken" in caplog.text


@pytest.mark.parametrize("rejoin", [True, False])
def test_a_new_node_may_take_the_place_of_one_that_is_gone(rejoin: bool, caplog: pytest.LogCaptureFixture) -> None:
    grid = Crowded(RUN, 1)

    def alter(kind: str, node: int, content: RecordDict) -> RecordDict:
        if (kind, node) == (MessageType.TRAIN, 101):
            grid.stays.discard(101)
        return content

    grid.alter = alter
    history = serve(grid, limits=flower.Limits(rejoin=rejoin))
    assert [r["participants"] for r in history.records] == ([3, 3, 3] if rejoin else [3, 2, 2])
    assert ("node 200 takes the place of node 101, which is offline, as device 1" in caplog.text) == rejoin


def test_a_node_cannot_become_another_device(caplog: pytest.LogCaptureFixture) -> None:
    """Node 102 stays device 2, whatever it says later, even while device 1 is silent."""
    grid = DirectGrid()

    def alter(kind: str, node: int, content: RecordDict) -> RecordDict | None:
        if kind == MessageType.TRAIN and node in (101, 102):
            return None  # both are asked for their channels in the next round
        if kind == MessageType.QUERY and node == 102 and "samples" not in content["report"]:
            content["report"] = MetricRecord({**content["report"]} | {"device": 1})
        return content

    grid.alter = alter
    serve(grid)
    asked = [node for kind, node in grid.asked if kind == MessageType.TRAIN]
    assert asked.count(102) == 1  # in the first round, as device 2
    assert "node 102 says it is device 1, which is out of range or taken" in caplog.text


def test_answers_that_nobody_asked_for_do_not_count(caplog: pytest.LogCaptureFixture) -> None:
    class Talkative(DirectGrid):
        def send_and_receive(self, messages: Iterable[Message], *, timeout: float) -> Iterator[Message]:
            for reply in super().send_and_receive(messages, timeout=timeout):
                yield reply
                yield reply

    assert serve(Talkative()).records == in_process().records
    assert "that nobody asked for" in caplog.text


def test_nodes_are_known_again_after_a_restart(tmp_path: Path) -> None:
    saved = ft.Checkpoint(tmp_path / "run.pt", every=1)
    serve(DirectGrid(SHORT, tmp_path), SHORT, checkpoint=saved)
    known = checkpoint.read_whole(tmp_path / "run.pt")["reports"]
    assert [known[k]["node"] for k in range(3)] == [100, 101, 102]


# The device's own file.


def test_a_damaged_state_file_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The device fails by name and is left out; a file of another model is replaced, with a word in the log."""
    saved = ft.Checkpoint(tmp_path / "run.pt", every=1)
    serve(DirectGrid(SHORT, tmp_path), SHORT, checkpoint=saved)
    path = tmp_path / "device-1.pt"
    whole = path.read_bytes()
    grid = DirectGrid(SHORT, tmp_path)
    device = split_prune.set_up(grid.contexts[101])
    draw = np.random.default_rng(0)
    for content in (whole[:500], b"", *(bytes_with_a_flip(whole, draw) for _ in range(20))):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"^state_file .*device-1\.pt is damaged, or not of this version of fltrain"
        ):
            _flower_device._kept(grid.contexts[101], device)
    checkpoint.write_whole(path, {"model": checkpoint.read_whole(tmp_path / "device-0.pt")["model"], "kept": {5: [3]}})
    with pytest.raises(ValueError, match=r"is damaged"):
        _flower_device._kept(grid.contexts[101], device)
    checkpoint.write_whole(path, {"model": {"module itself": "Other()"}, "kept": {}})
    assert _flower_device._kept(grid.contexts[101], device) == {}
    assert "is of another model and will be replaced" in caplog.text


def bytes_with_a_flip(whole: bytes, draw: np.random.Generator) -> bytes:
    changed = bytearray(whole)
    changed[int(draw.integers(len(whole)))] ^= 1 << int(draw.integers(8))
    return bytes(changed)
