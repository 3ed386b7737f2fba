"""The project's own measurements: `python -m benchmarks.run`."""
