"""Figures of ranked tags, baselines, and choices that are made on validation users."""
