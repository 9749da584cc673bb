"""One device: its least bandwidth, its answer at a price and at a bandwidth, and whether it can be served."""
