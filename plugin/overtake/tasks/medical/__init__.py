"""Medical answers: a rule book and a teacher reward them."""
