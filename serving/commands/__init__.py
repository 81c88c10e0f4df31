"""The commands of `scarwise`, one module a noun."""
