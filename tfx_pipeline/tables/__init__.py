"""The input layer: reads the three tables from files, validated, as bounded Arrow batches.

The functions are used inside Beam functions: importable, picklable, without state of their own.
Neither Beam nor TensorFlow is imported here.
"""
