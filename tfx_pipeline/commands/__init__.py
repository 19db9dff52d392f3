"""The commands of `tagtower`, one a module: `add_arguments(parser)` and `run(arguments)`.

Their top levels import nothing heavy, as all of them are imported to build the parser.
"""
