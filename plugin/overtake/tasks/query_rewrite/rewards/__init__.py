"""Rewards of query rewriting, a file each."""
