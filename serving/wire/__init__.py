"""Checks of requests and answers, for the model server and batch prediction."""
