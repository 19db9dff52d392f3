"""Code that training and serving share: features, history, memory, files, names of signatures.

It imports no model and no other part of `trainer`; `serving` imports nothing else of `trainer`.
The registry of metrics is here because every other room may read it.
"""
