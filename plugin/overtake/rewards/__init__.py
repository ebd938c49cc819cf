"""What is common to the rewards of all tasks."""

from overtake.task import Reward

COMMON = (Reward("answer_format", "overtake.rewards.answer_format:AnswerFormat"),)
"""Rewards that are of no task."""
