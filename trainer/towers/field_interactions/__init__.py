"""How the fields of a user become features of the output layers: one interaction a module.

`registry.make_interaction` makes the one that a configuration names.
"""
