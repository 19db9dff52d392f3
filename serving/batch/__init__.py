"""Batch prediction from files of instances to files of predictions, resumable after a kill."""
