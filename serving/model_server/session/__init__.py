"""A loaded SavedModel, and the answers to Predict requests."""
