"""Attractors by enumeration, against brute force and against simulation."""

import itertools

import jax
import numpy as np
import pytest

import jaxsim
from jaxsim import init, rules

KEY = jax.random.key(0)


def problems(count, n=3, T=4, d=4):
    return [jaxsim.data.unit_sphere(k, n=n, T=T, d=d) for k in jax.random.split(jax.random.key(9), count)]


@pytest.mark.parametrize("d", [2, 4])
def test_enumeration_is_brute_force(d):
    for problem in problems(4, d=d):
        found = {tuple(mm.selection.tolist()): mm.norm for mm in jaxsim.attractors(problem)}
        for alpha in itertools.product(range(4), repeat=3):
            mm = jaxsim.max_margin(problem, np.array(alpha))
            kept = mm.status == "optimal" and mm.locally_optimal
            assert (alpha in found) == kept
        assert list(found.values()) == sorted(found.values())
        if jaxsim.max_margin(problem).status == "optimal":
            assert tuple(problem.optimal.tolist()) in found


def test_masked_tokens_are_never_selected():
    base = problems(1)[0]
    mask = np.ones((3, 4), bool)
    mask[0, 1] = False
    mask[2, 1:] = False
    problem = jaxsim.Problem(base.tokens, base.queries, base.labels, base.decoder, mask)
    found = jaxsim.attractors(problem)
    assert found and all(mask[np.arange(3), mm.selection].all() for mm in found)


def test_prediction_and_what_it_misses():
    problem = problems(3)[2]
    run = jaxsim.simulate(problem, rules.NGD(0.1), init.Gaussian(1.0), key=KEY, lanes=200, steps=3000)
    found = jaxsim.attractors(problem)
    result = jaxsim.predict(run, found)
    decided = np.isin(run.verdict, ("global", "local"))
    assert result.covered is not None and result.covered.count == decided.sum()
    assert sum(p.count for p in result.fractions) == decided.sum()
    assert {lane for lane, _, _ in result.elsewhere} == set(np.flatnonzero(run.verdict == "transient"))
    nothing = jaxsim.predict(run, [])
    assert nothing.covered is not None and nothing.covered.count == 0
    early = jaxsim.simulate(problem, rules.NGD(0.1), init.Zero(), key=KEY, lanes=1, steps=1)
    assert jaxsim.predict(early, found).covered is None
    given = jaxsim.attractors(problem, selections=run.selections)
    met = {tuple(alpha) for alpha in run.selections.tolist()}
    wanted = [mm.selection.tolist() for mm in found if tuple(mm.selection.tolist()) in met]
    assert [mm.selection.tolist() for mm in given] == wanted
    with pytest.raises(ValueError, match="found: expected attractors of the problem of the run"):
        jaxsim.predict(run, jaxsim.attractors(problems(1)[0]))


def test_too_many_selections():
    with pytest.raises(ValueError, match="most: 262,144 selections are left after pruning; expected at most 1,000"):
        jaxsim.attractors(jaxsim.data.unit_sphere(KEY), most=1000)


@pytest.mark.slow
def test_saturated_runs_end_at_predicted_attractors():
    """200 random problems, 10⁵ steps: every saturated run is at a predicted attractor, or listed with its reason."""
    batch = problems(200)
    runs = jaxsim.simulate_many(batch, rules.NGD(0.1), init.Gaussian(0.5), key=KEY, lanes=8, steps=100_000)
    saturated, at, elsewhere, ends = 0, 0, [], {}
    for p, (problem, run) in enumerate(zip(batch, runs, strict=True)):
        result = jaxsim.predict(run, jaxsim.attractors(problem))
        for verdict in run.verdict:
            ends[str(verdict)] = ends.get(str(verdict), 0) + 1
        if result.covered is not None:
            saturated, at = saturated + result.covered.total, at + result.covered.count
        elsewhere += [(p, lane, alpha.tolist(), verdict) for lane, alpha, verdict in result.elsewhere]
    print(f"{saturated} saturated of {8 * 200}, {at} at predicted attractors; elsewhere: {elsewhere}; verdicts {ends}")
    assert saturated > 1000 and at + len(elsewhere) == saturated
    assert {verdict for *_, verdict in elsewhere} <= {"transient", "infeasible"}
    assert len(elsewhere) < 0.02 * saturated
