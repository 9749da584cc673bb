"""How every question ends: the same verdict on the answer, the same errors, or the answer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from enum import StrEnum
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from kktalloc._certificate.certificate import Certificate
from kktalloc._engine.floors import numpy_alone
from kktalloc._problem.kernel import kernel
from kktalloc._problem.problem import Problem
from kktalloc._problem.stats import Stats
from kktalloc._questions.diagnosis import Diagnosis
from kktalloc._questions.export import answer_frame, answer_object

if TYPE_CHECKING:
    import pandas as pd


class Status(StrEnum):
    """How a problem ended; the value is advice."""

    OPTIMAL = "optimal: certified by its KKT residuals and duality gap"
    UNCERTIFIED = "uncertified: a residual exceeds the tolerance; see certificate.worst and rescale the problem"
    INFEASIBLE = "infeasible: not all devices can meet their pruning limit; see diagnosis"

    @property
    def has_solution(self) -> bool:
        """Whether the arrays hold an allocation to use."""
        return self is Status.OPTIMAL


class Judged:
    """What every answer can be asked. It is one for ``problem``, whose infeasible part ``diagnosis`` names.

    ``stats`` tells what the call that made it cost; None for one that no call made, as by `dataclasses.replace`.
    """

    problem: Problem
    diagnosis: Diagnosis | None
    stats: Stats | None = None

    @property
    @abstractmethod
    def certificate(self) -> Certificate:
        """The verdict on this answer; `dataclasses.replace` has it found anew, writing into its arrays does not."""

    @cached_property
    def status(self) -> Status | np.ndarray:
        """How the problem ended, as the certificate sees it; for a batch an array of `Status`."""
        if nothing_to_judge(self):
            code = np.full(self.problem.batch_shape, 2)
        else:
            passed = self.certificate.passed
            infeasible = np.zeros_like(passed) if self.diagnosis is None else ~self.diagnosis.feasible
            code = np.select([infeasible, passed], [2, 0], 1)
        members = (Status.OPTIMAL, Status.UNCERTIFIED, Status.INFEASIBLE)
        if not code.ndim:
            return members[int(code)]
        return np.array(members, dtype=object)[code]

    def to_dict(self) -> dict[str, Any]:
        """The answer in JSON's types, with the field names of its class; of an infeasible problem status, diagnosis.

        Lists for arrays, None for what is not finite, the status as a word; as ``kktalloc solve --json`` prints it.
        """
        return answer_object(self)

    def to_frame(self) -> pd.DataFrame:
        """One row per device (and problem), a column for all that is said of each; needs pandas."""
        return answer_frame(self)


def nothing_to_judge(answer: Judged) -> bool:
    """Whether no problem of the batch has a solution."""
    return answer.diagnosis is not None and not answer.diagnosis.feasible.any()


class InfeasibleError(ValueError):
    """No allocation meets every floor. ``diagnosis`` names devices and resource and says what would do."""

    def __init__(self, diagnosis: Diagnosis) -> None:
        super().__init__()
        self.diagnosis = diagnosis

    def __str__(self) -> str:
        # The message takes a search for what would do: it is made when it is read.
        return self.diagnosis.message

    def __reduce__(self) -> tuple[type[InfeasibleError], tuple[Diagnosis]]:
        return type(self), (self.diagnosis,)


class UncertifiedError(ArithmeticError):
    """The certificate refused an answer. ``solution`` holds it, ``certificate`` the verdict."""

    def __init__(self, solution: Any, certificate: Certificate | None = None) -> None:
        self.solution = solution
        self.certificate: Certificate = solution.certificate if certificate is None else certificate
        name, value = self.certificate.worst
        super().__init__(f"the certificate refuses the allocation: {name} = {value:.3g}")

    def __reduce__(self) -> tuple[type[UncertifiedError], tuple[Any, Certificate]]:
        # An exception is pickled with its message, from which this one cannot be made.
        return type(self), (self.solution, self.certificate)


Answer = TypeVar("Answer", bound=Judged)


def close(answer: Answer, throw: bool) -> Answer:
    """The answer, judged. With `throw` an `UncertifiedError` where the certificate refuses what is feasible."""
    if nothing_to_judge(answer):
        return answer
    refused = ~answer.certificate.passed
    if answer.diagnosis is not None:
        refused = refused & answer.diagnosis.feasible
    if throw and refused.any():
        home = answer.problem.home
        raise UncertifiedError(answer if home is None else home.receive(answer))
    return answer


def close_value(value: np.ndarray, asked: np.ndarray, certificate: Certificate) -> np.ndarray:
    """The same for a question that is answered by a number per problem; `asked` says which were judged."""
    if (asked & ~certificate.passed).any():
        raise UncertifiedError(value, certificate)
    return value


Asked = TypeVar("Asked", bound=Callable[..., Any])


def asked_again(question: Asked) -> Asked:
    """Let the NumPy searches answer where the certificate refuses what the compiled ones found, as `solve` does."""

    @wraps(question)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            answer = question(*args, **kwargs)
        except UncertifiedError:
            if kernel() is None:
                raise
        else:
            if not isinstance(answer, Judged) or nothing_to_judge(answer) or kernel() is None:
                return answer
            refused = ~answer.certificate.passed
            if answer.diagnosis is not None:
                refused = refused & answer.diagnosis.feasible
            if not refused.any():
                return answer
        token = numpy_alone.set(True)
        try:
            return question(*args, **kwargs)
        finally:
            numpy_alone.reset(token)

    return cast(Asked, wrapped)
