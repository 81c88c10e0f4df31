"""One module per tool's export: records out of other people's files."""
