"""What is common to the rewards of all tasks."""
