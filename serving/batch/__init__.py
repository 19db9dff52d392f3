"""Batch prediction: instances in, predictions out, and how an interrupted one goes on."""
