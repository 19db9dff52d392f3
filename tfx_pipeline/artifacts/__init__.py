"""Artifacts of a run on disk: where they are, what they must hold, the metadata store."""
