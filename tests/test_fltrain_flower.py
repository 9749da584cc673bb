from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import fltrain as ft

pytest.importorskip("flwr", reason="the extra flower is not installed")

os.environ |= {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
}

from flwr.app import Context, Message, MessageType, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from fltrain import flower

APP = Path(__file__).parents[1] / "examples" / "flower"
BIN = Path(sys.executable).parent
sys.path.insert(0, str(APP))

import split_prune  # noqa: E402

RUN: dict[str, Any] = {"devices": 3, "rounds": 3, "seed": 0, "deadline-s": 0.5, "bandwidth-hz": 1e5}
RUN |= {"answer-s": 60.0, "output": ""}


def in_process(run: dict[str, Any] = RUN, absent: Callable[[int], list[int]] = lambda t: []) -> ft.History:
    """The same federation by `fltrain.train`; `absent` devices take no part."""
    split, shares, config = split_prune.federation(run)
    allocate = split_prune.allocator(run)

    def planner(round_index: int, workload: ft.Workload) -> ft.RoundPlan:
        gain = np.array([split_prune.channel_gain(0, k, round_index) for k in range(run["devices"])])
        gain[absent(round_index)] = np.nan
        return allocate(round_index, workload, gain)

    return ft.train(split, shares, config, planner, progress=False)


class DirectGrid:
    """Nodes 100, 101, ... that answer at once, in this process, through the real ClientApp."""

    def __init__(self, run: dict[str, Any] = RUN) -> None:
        TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1  # the runtime would have said who we are
        self.app = flower.client_app(split_prune.set_up)
        self.contexts = {
            100 + k: Context(
                run_id=1,
                node_id=100 + k,
                node_config={"partition-id": k},
                state=RecordDict(),
                run_config=run,
            )
            for k in range(run["devices"])
        }
        self.asked: list[tuple[str, int]] = []
        self.silent: Callable[[str, int], bool] = lambda kind, node: False

    def get_node_ids(self) -> Iterable[int]:
        return list(self.contexts)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float) -> Iterator[Message]:
        for message in reversed(list(messages)):  # answers come in any order
            kind, node = message.metadata.message_type, message.metadata.dst_node_id
            self.asked.append((kind, node))
            if not self.silent(kind, node):
                yield self.app(message, self.contexts[node])


def serve(grid: Any, run: dict[str, Any] = RUN) -> ft.History:
    split, _, config = split_prune.federation(run)
    return flower.serve(grid, split, config, split_prune.allocator(run), run["devices"], gather_s=0.0)


def test_messages_carry_the_in_process_run_bit_for_bit() -> None:
    grid, expected = DirectGrid(), in_process()
    history = serve(grid)
    assert history.records == expected.records
    assert torch.equal(history.u, expected.u)
    assert 0.0 < expected.records[0]["mean_pruning_ratio"] < 1.0  # masks did travel
    assert not torch.equal(history.u, split_prune.federation(RUN)[0].initial_global())
    for k, state in enumerate(expected.personal):
        kept = flower._kept(grid.contexts[100 + k])
        assert kept is not None
        assert torch.equal(kept.v, state.v)
    kinds = [kind for kind, _ in grid.asked]  # reports once at the start, then they come with the uploads
    assert kinds.count(MessageType.QUERY) == 6
    assert kinds.count(MessageType.TRAIN) == 9
    assert kinds.count(MessageType.EVALUATE) == 3


def test_a_device_that_falls_silent_is_left_out_and_may_come_back(caplog: pytest.LogCaptureFixture) -> None:
    """Device 1 does not answer its second training message; it is asked again and takes part in the third."""
    grid = DirectGrid()
    seen: list[int] = []

    def silent(kind: str, node: int) -> bool:
        if kind == MessageType.TRAIN and node == 101:
            seen.append(node)
            return len(seen) == 2
        return False

    grid.silent = silent
    with caplog.at_level(logging.WARNING):
        history = serve(grid)
    assert [r["left_out"] for r in history.records] == [[], [1], []]
    assert "round 1: device 1 left out: sent nothing" in caplog.text


def test_a_dead_device_takes_no_part() -> None:
    grid = DirectGrid()
    trained: list[int] = []

    def silent(kind: str, node: int) -> bool:
        trained.extend([node] * (kind == MessageType.TRAIN and node == 102))
        return node == 102 and (len(trained) > 1 or (len(trained) == 1 and kind != MessageType.TRAIN))

    grid.silent = silent
    history = serve(grid, RUN | {"rounds": 4})
    assert [r["left_out"] for r in history.records] == [[], [2], [], []]
    assert [r["participants"] for r in history.records] == [3, 3, 2, 2]
    assert history.records[-1]["accuracy_per_device"][2] is None
    assert history.records[-1]["accuracy"] is not None


def test_missing_devices_are_named() -> None:
    grid = DirectGrid()
    del grid.contexts[101]
    with pytest.raises(TimeoutError, match=r"^devices \[1\] did not report within 0 s$"):
        serve(grid)


def test_two_nodes_that_say_they_are_one_device(caplog: pytest.LogCaptureFixture) -> None:
    grid = DirectGrid()
    grid.contexts[102].node_config["partition-id"] = 1
    with pytest.raises(TimeoutError, match=r"^devices \[2\] did not report"):
        serve(grid)
    assert "says it is device 1, which is out of range or taken" in caplog.text


def test_values_that_do_not_fit_their_mask_are_refused() -> None:
    mask = np.packbits(np.array([True, False, True, True]))
    for count, shape in ((3, (4,)), (2, (2,))):
        content = RecordDict(
            {
                "about": MetricRecord({"loss": 1.0, "pruning_error_sq": 0.0, "bits": 1.0}),
                "sent": flower.ArrayRecord(numpy_ndarrays=[np.ones(count, np.float32), mask]),
            }
        )
        upload = flower._received(0, content, 4)
        assert upload.values is not None
        assert upload.values.shape == shape


def test_simulation_engine(tmp_path: Path) -> None:
    """Flower's own simulation: the same model as the loop in this process, in a fresh one."""
    program = f"""
import sys
sys.path.insert(0, {str(APP)!r})
import json
import numpy as np
import split_prune
from types import SimpleNamespace
from flwr.serverapp import ServerApp
from flwr.simulation import run_simulation
from fltrain import flower
run = json.loads({json.dumps(RUN)!r})
split, _, config = split_prune.federation(run)

def set_up(context):
    return split_prune.set_up(SimpleNamespace(run_config=run, node_config=context.node_config))

def main(grid, context):
    history = flower.serve(grid, split, config, split_prune.allocator(run), run["devices"])
    np.save({str(tmp_path / "u.npy")!r}, history.u.numpy())

server = ServerApp()
server.main()(main)
resources = {{"client_resources": {{"num_cpus": 1, "num_gpus": 0.0}}, "init_args": {{"num_cpus": 2}}}}
run_simulation(server, flower.client_app(set_up), run["devices"], backend_config=resources)
"""
    pytest.importorskip("ray", reason="the extra flower is not installed")
    search = os.pathsep.join([str(APP), str(APP.parents[1])])
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"FLWR_HOME": str(tmp_path), "PYTHONPATH": search},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (tmp_path / "u.npy").exists(), result.stderr[-3000:]
    np.testing.assert_allclose(np.load(tmp_path / "u.npy"), in_process().u, rtol=1e-5, atol=1e-6)


def free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[SimpleNamespace]:
    """A SuperLink and three SuperNodes, each a process of its own on loopback."""
    port = free_port()
    (tmp_path / "config.toml").write_text(
        f'[superlink]\ndefault = "loop"\n[superlink.loop]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    environment = os.environ | {"FLWR_HOME": str(tmp_path), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    environment["PYTHONPATH"] = str(APP.parents[1])
    processes: list[subprocess.Popen[bytes]] = []

    def start(name: str, *command: str) -> None:
        with (tmp_path / f"{name}.log").open("wb") as log:
            processes.append(
                subprocess.Popen(
                    [str(BIN / command[0]), *command[1:]],
                    env=environment,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    where = ("--insecure", "--host", "127.0.0.1", "--port")
    start("link", "flower-superlink", *where, str(port), "--disable-runtime-dependency-installation")
    time.sleep(5.0)
    for k in range(3):
        node = ("--superlink", f"127.0.0.1:{port}", "--node-config", f"partition-id={k}")
        start(f"node{k}", "flower-supernode", *where, str(free_port()), *node)

    def submit(run: dict[str, Any]) -> Path:
        run = run | {"output": str(tmp_path / "out")}
        settings = " ".join(f"{key}={json.dumps(value)}" for key, value in run.items())
        command = [str(BIN / "flwr"), "run", str(APP), "loop", "--run-config", settings]
        subprocess.run(command, env=environment, check=True, timeout=60, capture_output=True)
        return tmp_path / "out.npy"

    try:
        yield SimpleNamespace(submit=submit, nodes=processes[1:], folder=tmp_path)
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.5)


def test_real_processes_get_the_in_process_model(deployment: SimpleNamespace) -> None:
    out = deployment.submit(RUN)
    wait_for(out.exists, 900, "no result")
    np.testing.assert_allclose(np.load(out), in_process().u, rtol=1e-5, atol=1e-6)


def test_a_killed_supernode_does_not_end_the_run(deployment: SimpleNamespace) -> None:
    out = deployment.submit(RUN | {"rounds": 4, "answer-s": 45.0})
    log = deployment.folder / "node1.log"
    wait_for(lambda: b"train message" in log.read_bytes(), 900, "never began to train")
    os.killpg(deployment.nodes[1].pid, signal.SIGKILL)
    wait_for(out.exists, 900, "no result")
    records = json.loads(out.with_suffix(".json").read_text())["records"]
    assert len(records) == 4
    assert any(1 in r["left_out"] or r["participants"] < 3 for r in records)
    last = records[-1]
    assert (last["participants"], last["left_out"]) in ((2, []), (3, [1]))
    assert last["train_loss"] is not None
    assert [score is None for score in last["accuracy_per_device"]] == [False, True, False]
