"""Study `kinds`: which kind of round and which deadline win over bandwidth and speed, predicted and measured."""
