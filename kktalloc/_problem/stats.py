"""What an answer cost: which engine served, how often the devices were asked, what was solved again, and the seconds.

A question opens a tally and the engines enter what they do into whichever is open; a question that asks others counts
their work as its own.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from time import perf_counter
from typing import Any, TypeVar, cast

Question = TypeVar("Question", bound=Callable[..., Any])


@dataclass(frozen=True)
class Stats:
    """What a call cost, the questions that it asked in turn included; one for a whole batch.

    Parameters
    ----------
    engine
        ``"compiled"``, ``"numpy"``, or ``"compiled+numpy"`` where both had a part in it.
    evaluations
        How often the devices of a problem were asked for their answer, to a price or at a bandwidth; the sum over the
        problems. The compiled engine asks samples of a large problem first: these count, too.
    retries
        How many problems the compiled engine left, or its certificate refused, so that NumPy solved them again.
    seconds
        Wall-clock time of the call.
    """

    engine: str
    evaluations: int
    retries: int
    seconds: float


class _Tally:
    """What has been entered since a question began."""

    evaluations = retries = 0
    compiled = numpy = False


_open: ContextVar[_Tally | None] = ContextVar("kktalloc_tally", default=None)


def enter(engine: str, evaluations: int = 0, retries: int = 0) -> None:
    """Enter the work of the engine `engine`, ``"compiled"`` or ``"numpy"``, where a question has a tally open."""
    tally = _open.get()
    if tally is None:
        return
    if engine == "compiled":
        tally.compiled = True
    else:
        tally.numpy = True
    tally.evaluations += evaluations
    tally.retries += retries


def measured(question: Question) -> Question:
    """Let the answer of a question, an instance with a ``__dict__``, tell by `stats` what it cost."""

    @wraps(question)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        start = perf_counter()
        around, tally = _open.get(), _Tally()
        token = _open.set(tally)
        try:
            answer = question(*args, **kwargs)
        finally:
            _open.reset(token)
            if around is not None:
                around.evaluations += tally.evaluations
                around.retries += tally.retries
                around.compiled |= tally.compiled
                around.numpy |= tally.numpy
        engine = ("compiled+numpy" if tally.numpy else "compiled") if tally.compiled else "numpy"
        stats = object.__new__(Stats)  # as its frozen fields are set one by one, which takes longer than all else here
        vars(stats).update(
            engine=engine, evaluations=tally.evaluations, retries=tally.retries, seconds=perf_counter() - start
        )
        vars(answer)["stats"] = stats
        return answer

    return cast(Question, wrapped)
