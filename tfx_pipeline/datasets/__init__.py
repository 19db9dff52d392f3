"""Readers of data sets, which write the three input tables, and a generator of a synthetic log."""
