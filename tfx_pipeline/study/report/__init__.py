"""The page of a study: tables, plots, answers to its questions."""
