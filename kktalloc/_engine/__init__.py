"""From a problem to an allocation: the NumPy engine and the compiled one."""
