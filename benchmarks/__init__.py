"""What the product is worth, measured: `python -m benchmarks`, or one module at a time."""
