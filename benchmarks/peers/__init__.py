"""Models that training is compared with, each written as well as others would write it.

They get the same users, profile features, domains and widths, and read one label a row from lists
padded to a fixed length.
"""
