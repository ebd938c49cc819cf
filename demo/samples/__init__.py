"""Makers of the data that ships under datasets/."""
