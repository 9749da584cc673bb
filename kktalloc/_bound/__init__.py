"""The convergence theorems in numbers; `kktalloc.bound` is the way in."""
