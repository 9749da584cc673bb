"""Study `tradeoff`: does the allocator's objective order radio settings as training does?"""
