"""From tables to files of examples: snapshot times, snapshots, the shuffle, Beam's graph."""
