"""The configuration of a study, and what it defines."""
