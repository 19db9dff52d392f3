"""The trainings of a study, with their data sets and results."""
