"""A bar says what is done, how fast, and stops when all is."""

import io

import jax
import pytest
from rich.console import Console

import jaxsim
from jaxsim import _bars


@pytest.mark.parametrize("seen", [True, False], ids=["terminal", "file"])
def test_a_bar_counts_what_simulate_tells_it(monkeypatch, seen):
    said = io.StringIO()
    monkeypatch.setattr(_bars, "Console", lambda **_: Console(file=said, force_terminal=seen, width=110))
    problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5)
    how = dict(key=jax.random.key(1), lanes=64, steps=20)
    plain = jaxsim.simulate(problem, jaxsim.rules.NGD(0.1), jaxsim.init.Gaussian(1.0), **how)
    run = jaxsim.simulate(
        problem,
        jaxsim.rules.NGD(0.1),
        jaxsim.init.Gaussian(1.0),
        **how,
        chunk_lanes=16,
        progress=jaxsim.bar(title="NGD"),
    )
    assert (run.norm == plain.norm).all()
    assert "64/64 lanes" in said.getvalue() and "lanes/s" in said.getvalue() and "NGD" in said.getvalue()
