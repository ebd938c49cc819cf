"""Rewards: what those of all tasks share."""
