"""Loads transformed examples into memory and makes batches of them."""
