"""What can be asked of a problem: solve, min-max, least resources, blocks, selection."""
