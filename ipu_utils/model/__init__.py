"""The network with its weights."""
