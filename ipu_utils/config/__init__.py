"""Options: how each is declared, where values come from, and the configuration of a run."""
