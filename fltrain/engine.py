"""Where device rounds run: in this process, or in worker processes with one thread each.

Both give the same bits. A device round starts from loaded state alone, `train` holds torch to one thread, and
uploads are handed over in the order of the devices, whoever computed them.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.multiprocessing

from fltrain.config import TrainConfig
from fltrain.local import Job, Upload, device_round, evaluate
from fltrain.partition import DeviceData
from fltrain.replica import Replica
from fltrain.split import PersonalState, Split

_SLOTS = 2  # uploads a worker may have finished before the first of them is averaged in
_SHARED_MEMORY = Path("/dev/shm")
_REMEDY = "define its classes in a module file (a notebook's or a function's own cannot be imported), or use workers=1"


class Engine(Protocol):
    """Whatever runs the rounds of devices and asks them how good their models are."""

    def uploads(
        self, round_index: int, u: torch.Tensor, personal: Sequence[PersonalState], jobs: Sequence[Job]
    ) -> Iterator[Upload]:
        """One upload per job, in their order; its tensors are valid until the next one is asked for."""
        ...

    def accuracies(self, u: torch.Tensor, personal: Sequence[PersonalState]) -> Sequence[float | None]:
        """Accuracy of every device's model on its own held-out data; None if it did not answer."""
        ...


class InProcess:
    """Runs device rounds one after the other in this process."""

    def __init__(self, split: Split, shares: Sequence[DeviceData], config: TrainConfig) -> None:
        self._replica = make_replica(split, config)
        self._shares, self._config = shares, config

    def uploads(
        self, round_index: int, u: torch.Tensor, personal: Sequence[PersonalState], jobs: Sequence[Job]
    ) -> Iterator[Upload]:
        """One upload per job, in their order; its tensors are valid until the next one is asked for."""
        for k, rho, update in jobs:
            config = replace(self._config, update=update)
            yield device_round(self._replica, u, personal[k], self._shares[k], config, rho, round_index, k)

    def accuracies(self, u: torch.Tensor, personal: Sequence[PersonalState]) -> list[float]:
        """Accuracy of every device's model on its own held-out data."""
        return [evaluate(self._replica, u, state, share) for state, share in zip(personal, self._shares, strict=True)]

    def close(self) -> None:
        """Nothing to release."""


class Workers:
    """Runs device rounds in `workers` processes, one core each.

    The broadcast u, the data and the uploads lie in shared memory; only personal state and numbers travel
    through pipes. A worker takes the next device when one of its upload slots is free.

    Raises
    ------
    OSError
        Not enough shared memory for data and uploads.
    RuntimeError
        A worker process died, or failed with the error that is shown.
    ValueError
        The model cannot be sent to another process, or its class not be imported there.
    """

    def __init__(self, split: Split, shares: Sequence[DeviceData], config: TrainConfig, workers: int) -> None:
        n, packed = split.n_global, _pickled(split)
        _require_shared_memory(4 * n * (1 + workers * _SLOTS) + workers * _SLOTS * n, shares)
        data = _SharedData.pack(shares)
        self._u = _shared(torch.empty(n))
        self._values = _shared(torch.empty(workers, _SLOTS, n))
        self._masks = _shared(torch.empty(workers, _SLOTS, n, dtype=torch.bool))
        self._devices = len(shares)
        # A fresh interpreter: forking one whose torch has started threads may hang.
        context = torch.multiprocessing.get_context("spawn")
        self._pipes, self._processes = [], []
        for w in range(workers):
            mine, theirs = context.Pipe()
            process = context.Process(
                target=_serve,
                args=(theirs, packed, config, data, self._u, self._values[w], self._masks[w]),
                daemon=True,
            )
            with _importable_main(), _interrupts_held():
                process.start()
            theirs.close()
            self._pipes.append(mine)
            self._processes.append(process)

    def uploads(
        self, round_index: int, u: torch.Tensor, personal: Sequence[PersonalState], jobs: Sequence[Job]
    ) -> Iterator[Upload]:
        """One upload per job, in their order; its tensors are valid until the next one is asked for."""
        self._u.copy_(u)
        waiting = deque(jobs)

        def give(w: int, slot: int) -> None:
            if waiting:
                job = waiting.popleft()
                self._tell(w, ("round", slot, round_index, job, _packed(personal[job.device])))

        for slot in range(_SLOTS):
            for w in range(len(self._pipes)):
                give(w, slot)
        done: dict[int, tuple[int, int, dict[str, Any]]] = {}
        for k, _, _ in jobs:
            while k not in done:
                for w, (slot, answer) in self._answers():
                    done[answer["device"]] = (w, slot, answer)
            w, slot, answer = done.pop(k)
            answer["personal"] = _unpacked(answer["personal"])
            answer["values"] = self._values[w, slot] if answer["values"] else None
            answer["mask"] = self._masks[w, slot] if answer["mask"] else None
            yield Upload(**answer)
            give(w, slot)

    def accuracies(self, u: torch.Tensor, personal: Sequence[PersonalState]) -> list[float]:
        """Accuracy of every device's model on its own held-out data."""
        self._u.copy_(u)
        for k in range(self._devices):
            self._tell(k % len(self._pipes), ("evaluate", k, _packed(personal[k])))
        accuracy: dict[int, float] = {}
        while len(accuracy) < self._devices:
            accuracy.update(answer for _, answer in self._answers())
        return [accuracy[k] for k in range(self._devices)]

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.close()  # a worker ends when its pipe does
        for process in self._processes:
            process.join(timeout=5)
            if process.is_alive():
                process.terminate()

    def _tell(self, w: int, job: tuple[Any, ...]) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # it has died: `_answers` says so, and why
            self._pipes[w].send(job)

    def _answers(self) -> Iterator[tuple[int, Any]]:
        """What the workers have answered by now; waits for at least one answer."""
        for ready in wait(self._pipes):
            w = self._pipes.index(ready)  # type: ignore[arg-type]
            try:
                failure, answer = self._pipes[w].recv()
            except (EOFError, OSError):
                self._processes[w].join(timeout=5)
                raise RuntimeError(_epitaph(w, self._processes[w].exitcode)) from None
            if isinstance(failure, ValueError):
                raise failure
            if failure:
                raise RuntimeError(f"worker process {w} failed:\n{failure}")
            yield w, answer


@dataclass(frozen=True)
class _SharedData:
    """All devices' data end to end: two shared tensors however many devices there are."""

    x: torch.Tensor
    y: torch.Tensor
    sizes: list[int]

    @classmethod
    def pack(cls, shares: Sequence[DeviceData]) -> _SharedData:
        xs = [part for share in shares for part in (share.train_x, share.test_x)]
        ys = [part for share in shares for part in (share.train_y, share.test_y)]
        return cls(_shared(torch.cat(xs)), _shared(torch.cat(ys)), [len(part) for part in ys])

    def unpack(self) -> list[DeviceData]:
        xs, ys = torch.split(self.x, self.sizes), torch.split(self.y, self.sizes)
        return [DeviceData(xs[i], ys[i], xs[i + 1], ys[i + 1]) for i in range(0, len(self.sizes), 2)]


def make_engine(split: Split, shares: Sequence[DeviceData], config: TrainConfig, workers: int) -> InProcess | Workers:
    """The engine that `workers` asks for.

    Raises
    ------
    ValueError
        A number of workers that is not positive.
    """
    if workers < 1:
        raise ValueError(f"workers must be >= 1, got {workers}")
    return InProcess(split, shares, config) if workers == 1 else Workers(split, shares, config, workers)


def make_replica(split: Split, config: TrainConfig) -> Replica:
    """Working memory as `config` wants it."""
    return Replica(split, fast=config.fast, structure=config.structure if config.pruning else "weights")


def _serve(
    pipe: Connection,
    split: bytes,
    config: TrainConfig,
    data: _SharedData,
    u: torch.Tensor,
    values: torch.Tensor,
    masks: torch.Tensor,
) -> None:
    """A worker's life: answer jobs until the pipe closes."""
    torch.set_num_threads(1)
    try:
        replica, shares = make_replica(pickle.loads(split), config), data.unpack()
    except Exception as error:
        with suppress(OSError):  # another worker has said so already, and the run is over
            pipe.send((_not_found(error), None))
        return
    while True:
        try:
            job = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            if job[0] == "evaluate":
                _, k, packed = job
                answer: Any = (k, evaluate(replica, u, _unpacked(packed), shares[k]))
            else:
                _, slot, t, (k, rho, update), packed = job
                asked = replace(config, update=update)
                upload = device_round(replica, u, _unpacked(packed), shares[k], asked, rho, t, k)
                answer = (slot, _handed_over(upload, values[slot], masks[slot]))
            pipe.send((None, answer))
        except KeyboardInterrupt:
            return
        except Exception:
            pipe.send((traceback.format_exc(), None))


@contextmanager
def _importable_main() -> Iterator[None]:
    """Inside, new processes are not told to import a main program that is no file, such as one on standard input."""
    main = sys.modules["__main__"]
    path = vars(main).get("__file__")
    if path is None or Path(path).exists():
        yield
        return
    del main.__file__
    try:
        yield
    finally:
        main.__file__ = path


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Inside, new processes are never to hear of Ctrl-C, not even while they start: this process ends them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # started inside, it would let interrupts through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:  # what came meanwhile comes now
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _pickled(split: Split) -> bytes:
    """The split model for other processes, which thus can say what of it they cannot import."""
    try:
        return pickle.dumps(split)
    except Exception as error:
        raise ValueError(f"workers > 1 needs a model that can be sent to another process: {error}; {_REMEDY}") from None


def _not_found(error: Exception) -> ValueError:
    return ValueError(f"a worker process cannot import what the model is made of: {error}; {_REMEDY}")


def _epitaph(w: int, code: int | None) -> str:
    """What to say of a worker process that ended by itself."""
    died = f"worker process {w} died with exit code {code}"
    if code == -signal.SIGKILL:  # SIGKILL is how Linux takes memory back
        return f"{died}: the system killed it, as it does when memory runs out; use fewer workers"
    if code is not None and code < 0:
        return f"{died}: signal {signal.Signals(-code).name}; workers=1 may show why"
    return f'{died}; a script that trains with workers > 1 must start it under `if __name__ == "__main__":`'


def _handed_over(upload: Upload, values: torch.Tensor, mask: torch.Tensor) -> dict[str, Any]:
    """The upload's fields with its large tensors moved to shared memory; what is left there says whether."""
    if upload.values is not None:
        values.copy_(upload.values)
    if upload.mask is not None:
        mask.copy_(upload.mask)
    small = replace(upload, values=None, mask=None, personal=_packed(upload.personal))  # type: ignore[arg-type]
    return vars(small) | {"values": upload.values is not None, "mask": upload.mask is not None}


def _packed(state: PersonalState) -> tuple[Any, ...]:
    """As NumPy arrays, which travel by value; a tensor in a pipe would become a shared file of its own."""
    return tuple(t.numpy() for t in state.tensors())


def _unpacked(arrays: tuple[Any, ...]) -> PersonalState:
    return PersonalState.of([torch.from_numpy(a) if a.ndim else torch.tensor(a) for a in arrays])


def _shared(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.share_memory_()  # type: ignore[no-untyped-call]


def _require_shared_memory(uploads: int, shares: Sequence[DeviceData]) -> None:
    if not _SHARED_MEMORY.is_dir():
        return
    tensors = [t for share in shares for t in share.tensors]
    needed = uploads + sum(t.nbytes for t in tensors)
    status = os.statvfs(_SHARED_MEMORY)
    free = status.f_bavail * status.f_frsize
    if needed > free:  # found out later, it would be a bus error
        raise OSError(
            f"workers need {needed / 1e6:.0f} MB of shared memory, {_SHARED_MEMORY} has {free / 1e6:.0f} MB "
            "left; use workers=1 or enlarge it"
        )
