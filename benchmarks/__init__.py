"""Benchmarks and measurements behind the figures of the pages."""
