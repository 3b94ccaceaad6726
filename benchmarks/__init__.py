"""Benchmarks and measurements behind the figures in the README."""
