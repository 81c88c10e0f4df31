"""The HTTP calls, one module a noun."""
