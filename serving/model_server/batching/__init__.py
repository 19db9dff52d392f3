"""Requests of several callers joined into one call of the model, as TensorFlow Serving does."""
