"""Rewards of financial answers, a file each."""
