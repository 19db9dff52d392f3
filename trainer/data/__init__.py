"""Transformed examples in memory, and how they come there."""
