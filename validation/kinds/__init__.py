"""Study `kinds`: which kind of round and which deadline win, over bandwidth and compute speed, and what is predicted."""
