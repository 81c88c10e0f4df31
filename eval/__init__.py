"""Replay the past before trusting the new."""
