"""A Flink cluster on this machine, with Beam's job server.

It is for trying and testing the behaviour of a cluster: submitting to an existing one needs nothing
of this package.
"""
