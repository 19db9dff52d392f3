"""TFX components of the pipeline: what stock TFX does not have, or does differently.

Importing this package imports TFX (some 20 seconds).
"""
