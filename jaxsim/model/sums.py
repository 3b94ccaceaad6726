"""Sums that forget nothing: a number below double precision and the rounding error that goes with it."""

from jaxtyping import Array


def add_exactly(x: Array, residual: Array, increment: Array) -> tuple[Array, Array]:
    """The sum x + (increment + residual) and the rounding error of that sum, exactly (Knuth's two-sum)."""
    y = increment + residual
    total = x + y
    back = total - x
    return total, (x - (total - back)) + (y - back)
