"""Readers of data sets, which write the three tables of `tfx_pipeline.tables`, and a generator."""
