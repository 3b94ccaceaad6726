"""Programs that are compiled while others run: nothing is left to compile, and errors are where they belong."""

import functools

import jax
import pytest

import jaxsim
from jaxsim import driver
from jaxsim.simulation.rehearsals import rehearsed


def calls(*rules_and_steps, **more):
    problem = jaxsim.data.unit_sphere(jax.random.key(3), n=3, T=4, d=5)
    start = {"init": jaxsim.init.Gaussian(0.3), "key": jax.random.key(1), "lanes": 24}
    return [
        functools.partial(jaxsim.simulate, problem, rule, steps=steps, **start, **more)
        for rule, steps in rules_and_steps
    ]


GD, NGD = jaxsim.rules.GD(10.0), jaxsim.rules.NGD(0.1)


@pytest.mark.parametrize(
    ("engine", "cases"),
    [("xla", [(NGD, 10**7), (jaxsim.rules.Polyak(1.0), 40)]), ("native", [(GD, 300), (GD, 10**6)])],
)
def test_after_a_rehearsal_nothing_is_left_to_compile(engine, cases):
    if engine == "native" and not jaxsim.native.has_compiler():
        pytest.skip("no compiler")
    jax.clear_caches()
    ready = list(rehearsed(calls(*cases, engine=engine, chunk_lanes=8)))
    before = driver.compilations()
    assert before > 0
    for call in ready:
        call()
    assert driver.compilations() == before


def test_calls_come_in_their_order_and_say_themselves_what_is_wrong():
    cases = calls((NGD, 5), (NGD, -1), (NGD, 7))
    found = []
    for call in rehearsed(cases):
        found.append(call)
        if call is cases[1]:
            with pytest.raises(ValueError, match="steps: expected"):
                call()
        else:
            assert call().steps[-1] == call.keywords["steps"]
    assert found == cases


@pytest.fixture
def rehearsals(monkeypatch):
    """The horizons that were rehearsed."""
    found = []

    def chunks(self, rehearsal=False):
        found.append(self.options.steps)
        return iter([None])

    monkeypatch.setattr("jaxsim.simulation.work.Work.chunks", chunks)
    return found


def test_all_are_rehearsed_but_open_ends_and_large_chunks(rehearsals, monkeypatch):
    list(rehearsed([*calls((NGD, 5)), *calls((NGD, 6), until="resolved"), *calls((NGD, 7))]))
    assert rehearsals == [5, 7]
    monkeypatch.setattr("jaxsim.simulation.rehearsals.LARGEST", 100)
    list(rehearsed(calls((NGD, 8))))
    assert rehearsals == [5, 7]
