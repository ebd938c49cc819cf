"""Rewards of answer judges, a file each."""
