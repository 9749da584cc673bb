"""Every tolerance of the allocator, each with what it is for; those of ``kernel/`` are held to these by a test.

All are relative, to the budget or the term that they are about.
"""

# What every residual and the duality gap must not exceed for an allocation to be called optimal.
CERTIFIED = 1e-9

# Budgets that floors exceed by no more than this count as met: what a message says would do must do when it is given.
FEASIBLE = 1e-12

# A budget filled to this share is filled: where several prices are searched for at once, and for one price of one kind.
FILLED = 1e-13
FILLED_EXACTLY = 4e-15

# Half an ulp of rho = 1 - q decides no more than this of the keep ratio q.
KEEP_RATIO = 1e-15

# What rounding leaves of the worth of a watt beyond its price, and of how far an energy limit lies below the peak.
RESOLVED = 2e-14

# A min-max level is searched until its bandwidth is right to this: beside a floor's limit a level can be worth 1e6
# times the bandwidth that it takes.
LEVEL = 1e-15

# A gap of a min-max level above this is worth a search for better prices than those that came with it.
LOOSE_GAP = 1e-10

# A least deadline or bandwidth must be infeasible when it is made this much smaller.
LEAST = 1e-8
