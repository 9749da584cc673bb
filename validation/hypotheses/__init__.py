"""Every hypothesis of the theorems from measured errors, on real training, and what they guarantee."""
