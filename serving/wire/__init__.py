"""TensorFlow Serving's messages and their tensors, without importing TensorFlow."""
