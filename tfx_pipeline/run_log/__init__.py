"""Which runs there were, what they read, and the lock of an output folder."""
