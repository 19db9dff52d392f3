"""The log of runs with their inputs, and the lock of an output folder."""
