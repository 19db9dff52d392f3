"""Losses as pure functions of tensors, and the sampled softmax."""
