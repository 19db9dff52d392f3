"""Whole runs and what is done with their outputs: the runner, the report, reindexing."""
