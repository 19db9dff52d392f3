"""Beam's engines and child processes: reaching them, waiting for them, their failures."""
