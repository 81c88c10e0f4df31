"""Teach the model what the store has learned."""
