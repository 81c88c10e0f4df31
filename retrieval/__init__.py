"""Find what happened before and ground an answer in it."""
