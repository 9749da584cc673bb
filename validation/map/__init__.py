"""Study `map`: where over bandwidth and compute speed the joint scheme's saving holds, and where it does not."""
