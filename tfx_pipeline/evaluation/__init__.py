"""Figures of the Evaluator, decisions of the quality gate, and drift between days."""
