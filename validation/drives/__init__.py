"""Study `drives`: CIFAR-10 on measured drives, rounds as the planner runs them against tuned unpruned training."""
