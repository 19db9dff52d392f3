"""TensorFlow Serving's messages, and tensors in them, without TensorFlow."""
