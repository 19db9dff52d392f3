"""Whole runs and the use of their outputs: the runner, the report, reindexing."""
