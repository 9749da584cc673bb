"""Does the bound's objective order allocations at one deadline as training does?"""
