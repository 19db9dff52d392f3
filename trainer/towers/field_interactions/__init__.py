"""Interactions, which make features for the output layers from a user's fields, one a module.

`registry.make_interaction` makes the interaction that a configuration names.
"""
