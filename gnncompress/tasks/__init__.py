"""Tasks: what is predicted, how it is scored, and the one loop that trains for it."""
