"""Arrays of other libraries: NumPy on the way in, theirs again on the way out.

The allocator computes in float64 on the host. Who hands it PyTorch tensors, or arrays of any library that follows the
Python array API standard, gets the results back as such, on the device they came from. No library is imported for it.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import wraps
from importlib import import_module
from typing import Any, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Function = TypeVar("Function", bound=Callable[..., Any])

_FLOAT64 = np.dtype(np.float64)
_OURS = (int, float, np.ndarray, np.generic, list, tuple, str)  # bool is an int
_PLAIN = frozenset({int, float})
_MOST_DIMENSIONS = 64  # of a NumPy array; a list that holds itself has more

# What was asked, and what is missing where there is no answer, stay NumPy.
_ON_THE_HOST = frozenset({"problem", "diagnosis"})
# What an answer knows beside its fields, wherever its arrays lie.
_KNOWN_BESIDE = frozenset({"certificate", "_verdict", "_certified", "stats"})


@dataclass(frozen=True)
class Home:
    """Where arrays came from and results go: a library and one of its devices."""

    library: Any
    device: Any

    def __reduce__(self) -> tuple[Callable[[str, Any], Home], tuple[str, Any]]:
        # A module is pickled by its name.
        return _home_named, (self.library.__name__, self.device)

    def __str__(self) -> str:
        return f"{self.library.__name__} on {self.device}"

    @property
    def holds_float64(self) -> bool:
        """Whether results keep all their digits there: jax, as it comes, and some devices know 32 bits alone."""
        fine = np.array([1.0 + 2.0**-50])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # jax warns that it rounds
            try:
                there = self.library.asarray(fine, device=self.device)
            except TypeError:  # torch on Apple's devices has no 64-bit numbers at all
                return False
            try:
                return bool(as_numpy(there, self)[0] == fine[0])
            except (TypeError, ValueError, RuntimeError, BufferError):
                return True  # what can't be read is refused as that

    def receive(self, value: Any) -> Any:
        """`value` with its numeric arrays, those of nested dataclasses too, as arrays of this library and device."""
        if isinstance(value, np.ndarray | np.generic):
            if value.dtype.kind not in "biuf":
                return value
            array = np.asarray(value)
            return self.library.asarray(array if array.flags.writeable else array.copy(), device=self.device)
        if not is_dataclass(value) or isinstance(value, type):
            return value
        inside = {f.name: getattr(value, f.name) for f in fields(value) if f.init and f.name not in _ON_THE_HOST}
        received = replace(value, **{name: self.receive(v) for name, v in inside.items()})
        # A verdict on these very numbers holds for them wherever they lie.
        received.__dict__.update({n: v for n, v in vars(value).items() if n in _KNOWN_BESIDE})
        return received


def _home_named(library: str, device: Any) -> Home:
    return Home(import_module(library), device)


def home_of(value: Any) -> Home | None:
    """Library and device of an array; None for NumPy's, numbers and lists."""
    if isinstance(value, _OURS):
        return None
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return Home(torch, value.device)
    library = getattr(value, "__array_namespace__", None)
    return None if library is None else Home(library(), value.device)


def as_numpy(value: Any, home: Home) -> np.ndarray:
    """An array that lives at `home` as one of NumPy's, sharing its memory where that is float64 on the host."""
    if home.library is sys.modules.get("torch"):
        value = value.detach().cpu()
        return np.asarray(value.double() if value.is_floating_point() else value)
    return np.from_dlpack(value, device="cpu")


def first_wrong(name: str, values: np.ndarray, ok: np.ndarray) -> str:
    """Name, index and value of the first entry that is not in order, for a message."""
    index = tuple(int(i) for i in np.argwhere(~ok)[0])
    return f"{name}{list(index) or ''} = {values[index]!s}"


def as_float64(name: str, value: Any) -> np.ndarray:
    """An array of any home, or numbers, as an aligned float64 array in C order, itself if it is one.

    Raises
    ------
    ValueError
        One line that names the first entry that is no number, is masked or has a unit, or whose shape is not that of
        those before it.
    """
    if type(value) is np.ndarray and value.dtype is _FLOAT64 and value.flags.c_contiguous and value.flags.aligned:
        return value  # nearly always: the rest takes as long as a small problem's solution
    if (found := _beyond_numbers(value)) is not None:
        raise ValueError(f"{name}{found[0] or ''}: {found[1]}")
    given = _as_numbers(value)
    if given is None:
        raise ValueError(f"{name}{_offence(value)}")
    array = np.asarray(given, dtype=np.float64, order="C")
    return array if array.flags.aligned else array.copy()


def _as_numbers(value: Any) -> np.ndarray | None:
    """An array of real numbers as one of NumPy's, None if it is none."""
    try:
        home = home_of(value)
        given = _converted(value) if home is None else as_numpy(value, home)
    except (TypeError, ValueError, RuntimeError, BufferError, Warning):  # runtime, buffer: not for NumPy to hold
        return None
    return given if given.dtype.kind in "iuf" else None


def _converted(value: Any) -> np.ndarray:
    """`value` as NumPy has it. Other libraries' classes warn where something is lost on the way, which is an error."""
    if isinstance(value, _OURS):
        return np.asarray(value)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return np.asarray(value)


def _beyond_numbers(value: Any, depth: int = 0) -> tuple[list[int], str] | None:
    """Where and why bare numbers would not say what `value` says: a mask, a unit. None if they would."""
    if isinstance(value, list | tuple):
        if depth == _MOST_DIMENSIONS or all(type(entry) in _PLAIN for entry in value):
            return None
        for i, entry in enumerate(value):
            found = _beyond_numbers(entry, depth + 1)
            if found is not None:
                return [i, *found[0]], found[1]
        return None
    if type(value) in _PLAIN or type(value) is np.ndarray:
        return None
    if isinstance(value, np.ma.MaskedArray):
        masked = np.argwhere(np.ma.getmaskarray(value))
        return (masked[0].tolist(), "masked, so there is no number to use") if len(masked) else None
    unit = _unit_of(value)
    if unit is None:
        return None
    return [], f"a quantity in {str(unit) or 'no unit'}; expected bare numbers, in the SI unit that the name ends in"


def _unit_of(value: Any) -> Any:
    """The unit that an array carries (astropy, pint, unyt, xarray's attributes), or None."""
    for owner in (type(value), getattr(value, "__dict__", {})):
        for name in ("unit", "units"):
            if name in owner if isinstance(owner, dict) else hasattr(owner, name):
                return getattr(value, name)
    attributes = getattr(value, "attrs", None)
    named = attributes if isinstance(attributes, Mapping) else {}
    return named.get("units", named.get("unit"))


def _offence(value: Any) -> str:
    """Why `value` is no array of numbers, to stand behind its name: the first entry at fault, where one is."""
    index: list[int] = []
    while len(index) < _MOST_DIMENSIONS:
        entries = value.tolist() if isinstance(value, np.ndarray) else value
        if not isinstance(entries, list | tuple):
            break
        culprit = next((i for i, entry in enumerate(entries) if _as_numbers(entry) is None), None)
        if culprit is None:
            shapes = [tuple(np.shape(entry)) for entry in entries]
            odd = next((i for i, shape in enumerate(shapes) if shape != shapes[0]), None)
            if odd is None:
                break
            return f"{[*index, odd]}: shape {shapes[odd]} differs from {shapes[0]} of the entries before it"
        index.append(culprit)
        value = entries[culprit]
    return f"{index or ''}: expected numbers, got {' '.join(repr(value).split()):.80}"


def common_home(homes: Mapping[str, Home]) -> Home | None:
    """The one home of all named arrays, None if there are none.

    Raises
    ------
    ValueError
        They are spread over several devices, or libraries.
    """
    first = next(iter(homes), None)
    if first is None:
        return None
    for name, home in homes.items():
        if home != homes[first]:
            raise ValueError(f"{name}: an array of {home}, but {first} is one of {homes[first]}")
    return homes[first]


class HasHome(Protocol):
    """What was asked, as far as this module is concerned: something that knows where its arrays came from."""

    @property
    def home(self) -> Home | None:
        """Library and device, None for NumPy."""


def takes_arrays(function: Function) -> Function:
    """Let a function of a problem take arrays of its library and device for its other arguments; it returns NumPy."""
    return _at_the_door(function, lambda home, result: result)


def speaks_arrays(function: Function) -> Function:
    """As `takes_arrays`, and what it returns are arrays of that library and device too.

    What would round the results is refused before they are computed: their certificate is of all digits.
    """
    return _at_the_door(function, Home.receive, exact=True)


def _at_the_door(function: Function, returned: Callable[[Home, Any], Any], exact: bool = False) -> Function:
    signature = inspect.signature(function)

    @wraps(function)
    def wrapped(problem: HasHome, *args: Any, **kwargs: Any) -> Any:
        try:
            home = problem.home
        except AttributeError:
            raise TypeError(f"problem: expected a Problem, got {type(problem).__name__}") from None
        if (args or kwargs) and not all(isinstance(v, _OURS) or v is None for v in (*args, *kwargs.values())):
            names = signature.bind(problem, *args, **kwargs).arguments
            given = {n: v for n, v in (names | names.get("claimed", {})).items() if n not in ("problem", "claimed")}
            homes = {} if home is None else {"problem": home}
            homes |= {name: there for name, v in given.items() if (there := home_of(v)) is not None}
            home = common_home(homes)
            args, kwargs = tuple(map(_here, args)), {name: _here(v) for name, v in kwargs.items()}
        if exact and home is not None and not home.holds_float64:
            raise ValueError(
                f"problem: results go to {home}, which rounds them to 32 bits: enable 64 bits there "
                '(jax: jax.config.update("jax_enable_x64", True)) or make the problem of NumPy arrays'
            )
        result = function(problem, *args, **kwargs)
        return result if home is None else returned(home, result)

    return cast(Function, wrapped)


def _here(value: Any) -> Any:
    home = home_of(value)
    return value if home is None else as_numpy(value, home)
