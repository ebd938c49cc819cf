"""Rewards of medical answers, a file each."""
