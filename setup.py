"""The compiled modules: optional, for where no compiler is at hand NumPy and autograd serve alone."""

import platform
import sys

from setuptools import Extension, setup

# Without these GCC leaves the loops over lanes scalar; threaded jumps put branches back into them.
flags = ["-O3", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-fno-thread-jumps"]
if sys.platform == "win32":
    flags = ["/O2"]
if platform.machine() in ("x86_64", "AMD64") and sys.platform == "linux":
    flags.append("-mprefer-vector-width=512")

setup(
    ext_modules=[
        Extension(
            "kktalloc._kernel",
            [f"kktalloc/kernel/{name}.c" for name in ("module", "validate", "solve", "judge", "threads")],
            depends=[
                f"kktalloc/kernel/{name}.h"
                for name in ("block", "curve", "efficiency", "judge", "lanes", "problem", "response", "start", "tally")
            ],
            extra_compile_args=flags,
            optional=True,
        ),
        Extension(
            "fltrain._chain",
            [f"fltrain/kernel/{name}.c" for name in ("module", "chain")],
            depends=[f"fltrain/kernel/{name}.h" for name in ("chain", "steps", "tile")],
            extra_compile_args=flags,
            optional=True,
        ),
    ]
)
