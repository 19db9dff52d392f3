"""TFX components of the pipeline that stock TFX lacks or does differently.

Importing this package imports TFX (some 20 seconds).
"""
