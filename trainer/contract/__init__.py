"""Code that training and serving share: features, history, memory, files, names of signatures.

It imports no model and no other part of `trainer`; `serving` imports nothing else of `trainer`.
"""
