"""Structured pruning: whole channels disappear, and the model gets smaller and faster by itself."""
