"""Bring incidents in, make them safe to keep, and keep them."""
