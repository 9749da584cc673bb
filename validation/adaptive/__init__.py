"""Studies `adaptive` and `tuning`: the planner's rounds against unpruned training, each with a tuned server rate."""
