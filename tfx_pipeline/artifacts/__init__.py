"""Artifacts of a run on disk: their places, their manifests, the metadata store."""
