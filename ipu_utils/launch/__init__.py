"""How a run starts: sweeps, dry runs, checks before anything is built."""
