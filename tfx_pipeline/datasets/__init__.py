"""One reader a data set -> the three tables of `tfx_pipeline.tables`, and a synthetic generator."""
