"""One loaded SavedModel and what a Predict request asks of it."""
