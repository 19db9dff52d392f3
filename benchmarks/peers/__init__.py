"""What training is compared with: models that others would write, each honest and at its best.

They get the same users, profile features, domains and widths, and read one label a row from lists
padded to a fixed length.
"""
