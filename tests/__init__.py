"""A regular package, because IPython puts a folder with a package of this name on `sys.path`.

Spawned processes import tests by name, and a regular package anywhere on the path would win over a
folder without this file.
"""
