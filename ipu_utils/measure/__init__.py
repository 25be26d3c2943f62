"""Timing: calls and requests, their samples and statistics. Nothing here knows what is timed."""
