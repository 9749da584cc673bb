"""The Flower app as users start it: in Flower's simulation, and as processes that talk over loopback."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flower_cases import APP, QUIET, RUN, in_process

BIN = Path(sys.executable).parent
PATIENCE_S = 600


@pytest.fixture
def outside() -> Iterator[SimpleNamespace]:
    """A proxy that refuses whatever wants to leave this machine, and remembers what it was."""
    wanted: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.settimeout(5.0)
                        wanted.append(connection.recv(200))

        threading.Thread(target=refuse, daemon=True).start()
        proxy = f"http://127.0.0.1:{server.getsockname()[1]}"
        names = ("https_proxy", "HTTPS_PROXY")
        yield SimpleNamespace(environment=dict.fromkeys(names, proxy), wanted=wanted)
        server.shutdown(socket.SHUT_RDWR)


def environment(home: Path, outside: SimpleNamespace) -> dict[str, str]:
    """A user's, who has set nothing about Flower."""
    unset = {name: value for name, value in os.environ.items() if name not in QUIET}
    path = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(APP.parents[1])}
    return unset | path | {"FLWR_HOME": str(home)} | outside.environment


SIMULATION = """
import json, sys
import numpy as np
import split_prune
from types import SimpleNamespace
from flwr.serverapp import ServerApp
from flwr.simulation import run_simulation
from fltrain import flower
run, out = json.loads(sys.argv[1]), sys.argv[2]
split, _, config = split_prune.federation(run)

def set_up(context):
    return split_prune.set_up(SimpleNamespace(run_config=run, node_config=context.node_config))

def main(grid, context):
    history = flower.serve(grid, split, config, split_prune.allocator(run), run["devices"])
    np.save(out, history.u.numpy())

server = ServerApp()
server.main()(main)
resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"num_cpus": 2}}
run_simulation(server, flower.client_app(set_up), run["devices"], backend_config=resources)
"""


def test_simulation_engine_gets_the_in_process_model(tmp_path: Path, outside: SimpleNamespace) -> None:
    users = environment(tmp_path, outside)
    result = subprocess.run(
        [str(APP / "quiet"), sys.executable, "-c", SIMULATION, json.dumps(RUN), str(tmp_path / "u.npy")],
        env=users | {"PYTHONPATH": os.pathsep.join([str(APP), users["PYTHONPATH"]])},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (tmp_path / "u.npy").exists(), result.stderr[-3000:]
    np.testing.assert_allclose(np.load(tmp_path / "u.npy"), in_process().u, rtol=1e-5, atol=1e-6)
    assert outside.wanted == []


def free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.2)


class Cluster:
    """A SuperLink and its SuperNodes, started by the commands of docs/flower.md; each leads a process group."""

    def __init__(self, folder: Path, outside: SimpleNamespace) -> None:
        self.folder, self.port, self.environment = folder, free_port(), environment(folder, outside)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "config.toml").write_text(
            f'[superlink]\ndefault = "cluster"\n'
            f'[superlink.cluster]\naddress = "127.0.0.1:{self.port}"\ninsecure = true\n'
        )

    def start(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [str(APP / "quiet"), *command], env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def start_link(self) -> None:
        database = str(self.folder / "link.db")
        where = ("--host", "127.0.0.1", "--port", str(self.port), "--database", database)
        self.start("link", "flower-superlink", "--insecure", *where)
        wait_for(self.listens, "the SuperLink does not listen")

    def listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def start_node(self, k: int) -> None:
        config = f'partition-id={k} state-dir="{self.folder}"'
        where = ("--superlink", f"127.0.0.1:{self.port}", "--port", str(free_port()), "--node-config", config)
        self.start(f"node{k}", "flower-supernode", "--insecure", *where)

    def submit(self, run: dict[str, Any]) -> Path:
        """Returns the file that the final global part will be in."""
        run = run | {"output": str(self.folder / "out"), "checkpoint": str(self.folder / "run.pt")}
        settings = " ".join(f"{key}={json.dumps(value)}" for key, value in run.items())
        command = [str(APP / "quiet"), "flwr", "run", str(APP), "cluster", "--run-config", settings]
        subprocess.run(command, env=self.environment, check=True, timeout=PATIENCE_S, capture_output=True)
        return self.folder / "out.npy"

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def log(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(self.folder.glob("*.log")))


@pytest.fixture
def cluster(tmp_path: Path, outside: SimpleNamespace) -> Iterator[Cluster]:
    """Three devices; nothing of them may try to leave the machine."""
    made = Cluster(tmp_path, outside)
    try:
        made.start_link()
        for k in range(3):
            made.start_node(k)
        yield made
    finally:
        for name in list(made.processes):
            made.kill(name)
    assert outside.wanted == []


def test_real_processes_get_the_in_process_model(cluster: Cluster) -> None:
    out = cluster.submit(RUN)
    wait_for(out.exists, "no result")
    expected = in_process()
    np.testing.assert_allclose(np.load(out), expected.u, rtol=1e-5, atol=1e-6)
    assert len(json.loads(out.with_suffix(".json").read_text())["records"]) == 3


def test_a_killed_supernode_does_not_end_the_run(cluster: Cluster) -> None:
    out = cluster.submit(RUN | {"answer-s": 90.0})  # long enough for the living on a busy machine
    log = cluster.folder / "node1.log"
    wait_for(lambda: b"train message" in log.read_bytes(), "never began to train")
    cluster.kill("node1")
    wait_for(out.exists, "no result")
    records = json.loads(out.with_suffix(".json").read_text())["records"]
    assert len(records) == 3
    assert any(1 in r["left_out"] or r["participants"] < 3 for r in records)
    last = records[-1]
    assert (last["participants"], last["left_out"]) in ((2, []), (3, [1]))
    assert last["train_loss"] is not None
    assert [score is None for score in last["accuracy_per_device"]] == [False, True, False]


def test_a_killed_server_goes_on_from_its_checkpoint(cluster: Cluster) -> None:
    """SuperLink and ServerApp die in the second round; started again, the run ends as if they had not."""
    out = cluster.submit(RUN)
    wait_for((cluster.folder / "run.pt").exists, "no checkpoint")
    cluster.kill("link")
    assert not out.exists()
    cluster.start_link()
    cluster.submit(RUN)
    wait_for(out.exists, "no result")
    np.testing.assert_allclose(np.load(out), in_process().u, rtol=1e-5, atol=1e-6)
