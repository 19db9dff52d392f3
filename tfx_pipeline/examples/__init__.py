"""From tables to files of examples: moments, snapshots, the shuffle, Beam's graph."""
