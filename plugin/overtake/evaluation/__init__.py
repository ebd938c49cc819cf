"""Candidates compared on held-out rows, whatever the task."""
