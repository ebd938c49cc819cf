"""Financial reasoning: answers that are right, with their reasoning."""
