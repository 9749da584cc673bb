"""The compiled modules: optional, for where no compiler is at hand NumPy and autograd serve alone."""

import platform
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# Without these GCC leaves the loops over lanes scalar; threaded jumps put branches back into them.
flags = ["-O3", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-fno-thread-jumps"]
if sys.platform == "win32":
    flags = ["/O2"]
if platform.machine() in ("x86_64", "AMD64") and sys.platform == "linux":
    flags.append("-mprefer-vector-width=512")

# One wheel serves every Python from 3.11 on. Free-threaded ones have no such stable interface: theirs is their own.
stable = not sysconfig.get_config_var("Py_GIL_DISABLED")
common = {
    "define_macros": [("Py_LIMITED_API", "0x030B0000")] if stable else [],
    "py_limited_api": stable,
    "extra_compile_args": flags,
    "optional": True,
}


class BuildExt(build_ext):
    """Beside the sources, an older build under a name of another kind would be loaded in place of this one."""

    def copy_extensions_to_source(self) -> None:
        """Copy what was built, and remove what would hide it."""
        super().copy_extensions_to_source()
        for extension in self.extensions:
            built = Path(self.get_ext_filename(self.get_ext_fullname(extension.name)))
            for other in built.parent.glob(f"{built.name.partition('.')[0]}.*"):
                if built.is_file() and other.name != built.name and other.suffix in (".so", ".pyd"):
                    other.unlink()


setup(
    cmdclass={"build_ext": BuildExt},
    ext_modules=[
        Extension(
            "kktalloc._kernel",
            [
                f"kktalloc/kernel/{name}.c"
                for name in (
                    "module",
                    "validate",
                    "solve",
                    "capped",
                    "floors",
                    "judge",
                    "clocked",
                    "clock_judge",
                    "threads",
                )
            ],
            depends=[
                f"kktalloc/kernel/{name}.h"
                for name in sorted(path.stem for path in Path("kktalloc/kernel").glob("*.h"))
            ],
            **common,
        ),
        Extension(
            "fltrain._chain",
            [f"fltrain/kernel/{name}.c" for name in ("module", "chain")],
            depends=[f"fltrain/kernel/{name}.h" for name in ("chain", "steps", "tile")],
            **common,
        ),
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if stable else {},
)
