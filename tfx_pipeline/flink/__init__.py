"""A Flink cluster on this machine, with Beam's job server before it.

For trying and testing what a cluster of one's own does: nothing here is needed to submit to one.
"""
