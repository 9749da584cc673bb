"""Study `scale`: the allocator alone, to 10^5 phones in one cell and 10^3 cells at once."""
