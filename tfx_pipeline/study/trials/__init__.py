"""The trainings of a study, their data sets and results."""
