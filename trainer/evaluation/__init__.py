"""Figures of ranked tags, the baselines beside them, and what is chosen on validation users."""
