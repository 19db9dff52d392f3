"""Losses as pure functions of arrays, and the sampled softmax."""
