"""A study's page: tables, plots, answers to its questions."""
