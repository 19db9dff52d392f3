"""What training and serving agree on: features, history, memory, files, names of signatures.

It imports no model and no other room; `serving` may import it and nothing else of `trainer`.
"""
