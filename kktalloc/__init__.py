"""Exact joint pruning, bandwidth, power and energy allocation for federated learning over wireless networks."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kktalloc._public import *  # noqa: F403


def __getattr__(name: str) -> Any:
    """Load the public names when the first is asked for: the command line then answers Ctrl-C while NumPy loads."""
    if "__all__" not in globals() and (name == "__all__" or not name.startswith("_")):
        public = import_module("kktalloc._public")
        globals().update({known: getattr(public, known) for known in public.__all__}, __all__=public.__all__)
        if name in globals():
            return globals()[name]
    if name == "__version__":
        return import_module("importlib.metadata").version("kktalloc")
    raise AttributeError(f"module 'kktalloc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *(globals().get("__all__") or __getattr__("__all__"))})
