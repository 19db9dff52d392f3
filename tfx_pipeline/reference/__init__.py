"""Pages of the documentation that are generated from the code, and the registry of report keys."""
