"""The input layer: the three tables from files, checked, as Arrow batches of bounded size.

Used inside Beam functions: importable, picklable, without state of its own. Neither Beam nor
TensorFlow is imported here.
"""
