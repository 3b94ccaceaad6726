"""Maps, shells, weights, edges and perturbations of simulated basins."""

import dataclasses

import jax
import numpy as np
import pytest
import scipy.stats

import jaxsim
from jaxsim import basins
from jaxsim.analysis import VERDICTS

NGD = jaxsim.rules.NGD(0.1)


@pytest.fixture(scope="module")
def problem():
    return jaxsim.data.unit_sphere(jax.random.key(2), n=4, T=4, d=6)


@pytest.fixture(scope="module")
def run(problem):
    return jaxsim.simulate(
        problem, NGD, jaxsim.init.Gaussian(1.0), key=jax.random.key(1), lanes=600, steps=1000, record=[1000]
    )


@pytest.fixture(scope="module")
def plane(problem, run):
    return basins.limits_plane(problem, common_local(run))


def common_local(run):
    return run.selections[np.bincount(run.selection_number[run.verdict == "local"]).argmax()]


def test_a_pixel_is_the_run_from_its_matrix(problem, plane, tmp_path):
    found = basins.basin_map(problem, NGD, plane, window=(-4, 4, -3, 5), resolution=(9, 6), steps=1000, dtype="float64")
    a, b = np.meshgrid(found.a, found.b)
    W0 = (
        plane.origin
        + np.einsum("p,de->pde", a.ravel(), plane.axes[0])
        + np.einsum("p,de->pde", b.ravel(), plane.axes[1])
    )
    alone = jaxsim.simulate(
        problem, NGD, jaxsim.init.Given(W0), key=jax.random.key(0), lanes=54, steps=1000, dtype="float64"
    )
    assert [VERDICTS[k] for k in found.verdict.ravel()] == alone.verdict.tolist()
    np.testing.assert_array_equal(found.selections[found.selection_number.ravel()], alone.selection)
    for settled, saturated in zip(found.time.ravel(), alone.saturated, strict=True):
        if settled < 0:
            assert not saturated[-1]
        else:
            assert saturated[alone.steps >= settled].all()
            assert not saturated[alone.steps < settled][-1:].any()
    assert len(set(alone.verdict)) > 1 and abs(sum(found.shares().values()) - 1) < 1e-12
    found.save(tmp_path / "map.npz")
    again = basins.BasinMap.load(tmp_path / "map.npz")
    np.testing.assert_array_equal(again.labels, found.labels)
    assert again.names == found.names and again.settings == found.settings
    with pytest.raises(ValueError, match="expected a saved shells .* holds a basin map"):
        basins.Shells.load(tmp_path / "map.npz")


def test_refinement_runs_less_and_finds_the_same_border(problem, plane):
    how = dict(window=(-6, 6, -6, 6), resolution=(65, 65), steps=600)
    whole = basins.basin_map(problem, NGD, plane, **how)
    seen = []
    refined = basins.basin_map(problem, NGD, plane, refine=2, progress=lambda now, of: seen.append((now, of)), **how)
    assert whole.computed.all() and refined.computed.mean() < 0.6
    names = whole.selections[whole.selection_number], refined.selections[refined.selection_number]
    assert ((names[0] != names[1]).any(2) | (whole.verdict != refined.verdict)).mean() < 0.01
    assert seen[-1] == (refined.computed.sum(), 65 * 65)


def test_bad_planes_windows_and_resolutions(problem, plane):
    A = np.eye(6)
    with pytest.raises(ValueError, match="second: expected a direction that is not parallel"):
        basins.plane(A, -2 * A)
    with pytest.raises(ValueError, match="first: expected a direction; got the zero matrix"):
        basins.plane(0 * A, A)
    with pytest.raises(ValueError, match="selection: expected another selection than the optimal one"):
        basins.limits_plane(problem, problem.optimal)
    tiny = basins.plane(1e-200 * A, 1e200 * np.diag(np.arange(6.0)))
    np.testing.assert_allclose(np.einsum("ade,bde->ab", tiny.axes, tiny.axes), np.eye(2), atol=1e-12)
    with pytest.raises(ValueError, match="plane: expected matrices .6, 6."):
        basins.basin_map(problem, NGD, basins.plane(np.eye(2), np.ones((2, 2))))
    for bad, words in (
        (dict(window=(0, 0, -1, 1)), "window: expected a first < a last"),
        (dict(resolution=(1, 20)), "resolution: expected at least 2"),
        (dict(resolution=256), "resolution: expected pixels along a and along b"),
        (dict(refine=70), "refine: expected a first spacing"),
        (dict(resolution=(2000, 20)), "at most 1000 × 1000 pixels"),
        (dict(resolution=(1000, 1000), memory=10**7), r"10 MiB fit 250 × 250"),
    ):
        with pytest.raises(ValueError, match=words):
            basins.basin_map(problem, NGD, plane, **bad)


def test_shells_count_the_lanes_of_spheres(problem, tmp_path):
    key = jax.random.key(5)
    found = basins.shells(problem, NGD, [0.5, 8.0], key=key, lanes=300, steps=600)
    for k, radius in enumerate(found.radii):
        run = jaxsim.simulate(problem, NGD, jaxsim.init.Sphere(radius), key=key, lanes=300, steps=600, record=[600])
        assert found.fractions("global")[k] == run.fractions()["global"]
        alpha = tuple(common_local(run))
        number = [tuple(s) for s in found.selections].index(alpha)
        settled = (run.selection == alpha).all(1) & np.isin(run.verdict, ("global", "local"))
        assert found.by_selection(number)[k].count == settled.sum()
    assert found.counts.sum() == 600
    found.save(tmp_path / "shells.npz")
    np.testing.assert_array_equal(basins.Shells.load(tmp_path / "shells.npz").counts, found.counts)
    with pytest.raises(ValueError, match="radii: expected a number above 0"):
        basins.shells(problem, NGD, [0.0], key=key, lanes=4)


def test_angles_to_the_global_limit(problem, run):
    W = jaxsim.max_margin(problem).W
    toward = jaxsim.simulate(
        problem, NGD, jaxsim.init.Given(np.stack([3 * W, -W])), key=jax.random.key(0), lanes=2, steps=2, dtype="float64"
    )
    np.testing.assert_allclose(basins.angles(toward), [0, 180], atol=1e-5)
    table = basins.by_angle(run, 4)
    assert sum(p.total for _, p in table) == run.lanes
    assert sum(p.count for _, p in table) == (run.verdict == "global").sum()
    assert table[0][1].value > table[-1][1].value  # nearer to W_mm, more often global
    with pytest.raises(ValueError, match="30 classes need at least 900 lanes; the run has 600"):
        basins.by_angle(run, 30)
    with pytest.raises(ValueError, match="from 0° to 10° are 0 lanes, expected at least 30; use wider classes"):
        basins.by_angle(run, [0, 10, 180])


def test_reweighting_agrees_with_running(problem):
    """False-alarm probability below 1e-6: differences beyond 5 standard errors of two independent estimates."""
    how = dict(lanes=3000, steps=300, record=[300])
    key = jax.random.key(8)
    wide = jaxsim.simulate(problem, NGD, jaxsim.init.Gaussian(1.5), key=key, **how)
    narrow = jaxsim.simulate(problem, NGD, jaxsim.init.Gaussian(0.7), key=jax.random.fold_in(key, 1), **how)
    for law in (jaxsim.init.Gaussian(1.0), jaxsim.init.Sphere(6.0)):
        direct = jaxsim.simulate(problem, NGD, law, key=jax.random.fold_in(key, 2), **how)
        p = direct.fractions()["global"].value
        for runs in (wide, [wide, narrow]):
            found = basins.reweight(runs, law)
            width = (found.high - found.low) / (2 * 1.96)
            assert abs(found.value - p) < 5 * np.hypot(width, np.sqrt(p * (1 - p) / 3000))
            assert found.low < found.value < found.high and found.effective > 100
    p = wide.fractions()["global"]
    same = basins.reweight(wide, jaxsim.init.Gaussian(np.float64(1.5)))
    assert same.value == pytest.approx(p.value) and same.effective == pytest.approx(3000)
    assert (same.low, same.high) == pytest.approx((p.low, p.high))
    tilted = basins.reweight(wide, lambda xi: -np.sum(xi**2, axis=1) / 2)  # Gaussian(1.0) as a log density
    assert tilted.value == pytest.approx(basins.reweight(wide, jaxsim.init.Gaussian(1.0)).value)
    with pytest.raises(ValueError, match="lanes drawn apart; got two runs with lanes of one key"):
        basins.reweight([wide, wide], jaxsim.init.Gaussian(1.0))


def test_reweighted_intervals_cover_when_the_verdict_depends_on_the_norm(run):
    """The hard case: weights depend on the norm too. A coverage of 93% falls to 88% in 400 samples with chance 1e-4."""
    rng = np.random.default_rng(0)
    rank, n, covered = run.frame.rank, 2000, 0
    limit = 1.1 * np.sqrt(scipy.stats.chi2(rank).ppf(0.7))
    truth = scipy.stats.chi2(rank).sf((limit / 1.1) ** 2)
    for _ in range(400):
        xi = rng.standard_normal((n, rank)) @ run.frame.span
        beyond = np.linalg.norm(xi, axis=1) > limit
        # The verdict is a function of the norm.
        fake = _Labelled(run, xi, np.where(beyond, "global", "local"))
        found = basins.reweight(fake, jaxsim.init.Gaussian(1.1))
        covered += found.low <= truth <= found.high
    assert covered / 400 > 0.88


@pytest.mark.parametrize("share", [0.3, 0.01, 0.003])
def test_reweighted_intervals_that_rest_on_few_lanes_are_not_given(run, share):
    """The verdict is one of far starts, which the law asked for makes often and the runs seldom. 300 samples: misses of
    5% rise to 10% with probability below 1e-3."""
    rng = np.random.default_rng(0)
    rank, wide, wrong = run.frame.rank, 1.1, 0
    limit = wide * np.sqrt(scipy.stats.chi2(rank).isf(share))
    for _ in range(300):
        xi = rng.standard_normal((2000, rank)) @ run.frame.span
        fake = _Labelled(run, xi, np.where(np.linalg.norm(xi, axis=1) > limit, "global", "local"))
        found = basins.reweight(fake, jaxsim.init.Gaussian(wide))
        wrong += not np.isnan(found.low) and not found.low <= share <= found.high
    assert wrong / 300 < 0.1
    assert np.isfinite(basins.reweight(run, jaxsim.init.Gaussian(1.0)).low)  # its own law


class _Labelled(jaxsim.Run):
    """A run with other starts and verdicts."""

    def __init__(self, run, xi, verdict):
        for field in dataclasses.fields(run):
            object.__setattr__(self, field.name, getattr(run, field.name))
        object.__setattr__(self, "start", xi)
        object.__setattr__(self, "final_logits", np.zeros((len(xi), 1, 1)))
        object.__setattr__(self, "_verdict", verdict)

    @property
    def verdict(self):
        return self._verdict


def test_reweighting_refuses_what_it_cannot_know(problem, run):
    gaussian = jaxsim.init.Gaussian

    def with_settings(**changes):
        return dataclasses.replace(run, settings=run.settings | changes)

    ball = with_settings(init="Sphere(radius=3.5)", key=[7, 7])
    for runs, law, words in (
        (run, gaussian(4.0), "lanes are worth .* expected at least 30; run about"),
        ([run, with_settings(rule="NGD(eta=0.2)")], gaussian(1.0), "expected one rule; got"),
        (with_settings(train="keyquery"), gaussian(1.0), "expected runs of W; got runs of K and Q"),
        (ball, gaussian(1.0), "spheres reach .* = 3.5 at most, and a share .* beyond; expected a run with Gaussian"),
        (ball, jaxsim.init.Sphere(5.0), "spheres reach"),
        (ball, lambda xi: np.zeros(len(xi)), "an unknown share"),
        (run, jaxsim.init.Zero(), "law: expected Gaussian, Sphere or a log density"),
        (run, lambda xi: np.zeros(3), "law: expected one log density per lane"),
        (with_settings(init="Zero()"), gaussian(1.0), "expected Gaussian or Sphere starts; got Zero"),
        ([], gaussian(1.0), "runs: expected at least one"),
    ):
        with pytest.raises(ValueError, match=words):
            basins.reweight(runs, law)
    with pytest.raises(ValueError, match="level: expected a number between 0 and 1; got 95"):
        basins.reweight(run, gaussian(1.0), level=95)
    small = jaxsim.data.unit_sphere(jax.random.key(0), n=4, T=4, d=2)
    full = jaxsim.simulate(small, NGD, gaussian(1.0), key=jax.random.key(1), lanes=60, steps=50)
    with pytest.raises(ValueError, match="a sphere has no density on the span"):
        basins.reweight(full, jaxsim.init.Sphere(1.0))


@pytest.fixture(scope="module")
def found_edges(problem, run):
    is_global, local = run.verdict == "global", run.verdict == "local"
    count = min(is_global.sum(), local.sum(), 12)
    how = dict(steps=1000, dtype="float64")
    return basins.edges(problem, NGD, run.start[is_global][:count], run.start[local][:count], **how)


def test_edges_reach_the_gap_and_their_ends_part(problem, found_edges, tmp_path):
    assert found_edges.gap.max() <= 1e-10
    starts = np.concatenate([found_edges.inside, found_edges.outside])
    again = jaxsim.simulate(
        problem, NGD, jaxsim.init.Reduced(starts), key=jax.random.key(0), lanes=len(starts), steps=1000, dtype="float64"
    )
    goes = (again.selection == problem.optimal).all(1)
    assert goes[: len(goes) // 2].all() and not goes[len(goes) // 2 :].any()
    found_edges.save(tmp_path / "edges.npz")
    np.testing.assert_array_equal(basins.Edges.load(tmp_path / "edges.npz").inside, found_edges.inside)


def test_the_edge_is_followed_and_says_which_tokens_compete(problem, found_edges, tmp_path):
    states = basins.edge_states(found_edges, NGD, stretches=8, stretch=50)
    kept = states.lost < 0
    assert kept.any() and np.isfinite(states.norm[kept]).all()
    assert (states.spread[kept] < 1e-3).all()  # the ends stay together for 400 steps: a trajectory on the border
    np.testing.assert_allclose(states.attention[kept].sum(3), 1, rtol=1e-9)
    pull = states.pull[kept, -1]
    assert np.abs(pull).max((1, 2)) == pytest.approx(1.0)
    scores = np.where(problem.visible, problem.scores, np.nan)
    for k in np.flatnonzero(kept):  # steps raise a token of higher score than the selected one, or lower a worse one
        for i, t in np.argwhere(states.competing[k]):
            top = states.attention[k, -1, i].argmax()
            if t != top and states.attention[k, -1, i, top] > 0.9:
                assert (states.pull[k, -1, i, t] < 0) == (scores[i, t] > scores[i, top])
    states.save(tmp_path / "states.npz")
    assert basins.EdgeStates.load(tmp_path / "states.npz").times.tolist() == states.times.tolist()


def test_starts_of_other_coordinates_are_named(problem, run):
    """The same 16 numbers mean other matrices; saying which makes the answer that of the run."""
    small = jaxsim.data.unit_sphere(jax.random.key(3), n=4, T=4, d=4)
    primal = jaxsim.simulate(
        small, NGD, jaxsim.init.Gaussian(1.0), key=jax.random.key(1), lanes=20, steps=200, coordinates="primal"
    )
    found = basins.smallest_perturbation(
        small, NGD, primal.start, key=jax.random.key(0), reach=1.0, rounds=0, steps=200, coordinates="primal"
    )
    np.testing.assert_array_equal(found.optimal, (primal.selection == small.optimal).all(1))
    assert found.settings["coordinates"] == "primal"


def test_bad_pairs(problem, run, found_edges):
    start = run.start
    is_global = run.verdict == "global"
    for inside, outside, words in (
        (start[is_global][:2], start[is_global][:2], "of pair 0 both go global .2 of 2 pairs are wrong"),
        (start[~is_global][:1], start[~is_global][:1], "of pair 0 neither goes global"),
        (start[:2], start[:1], "outside: expected shape"),
        (start[:2, :3], start[:2], "inside: expected shape"),
        (start[:0], start[:0], "inside: expected at least one pair"),
    ):
        with pytest.raises(ValueError, match=words):
            basins.edges(problem, NGD, inside, outside, steps=1000)
    with pytest.raises(ValueError, match="gap: float32 resolves"):
        basins.edges(problem, NGD, start[is_global][:1], start[~is_global][:1], steps=1000, dtype="float32")
    with pytest.raises(ValueError, match="rule: expected the rule of the edges"):
        basins.edge_states(found_edges, jaxsim.rules.NGD(0.2))
    with pytest.raises(ValueError, match="stretch: expected stretches"):
        basins.edge_states(found_edges, NGD, stretches=20, stretch=50)


def test_edge_states_refuse_rules_with_memory(found_edges):
    rule = jaxsim.rules.HeavyBall(0.1)
    settings = found_edges.settings | {"rule": repr(rule), "rule_data": jaxsim.rules.parameters(rule)}
    with pytest.raises(ValueError, match="rule: expected GD, NGD or Polyak with constant steps"):
        basins.edge_states(dataclasses.replace(found_edges, settings=settings), rule)


@pytest.mark.promise
def test_decisive_perturbations_decide_and_are_no_longer_than_a_line_search(problem, run, tmp_path):
    start = run.start[:12]
    how = dict(key=jax.random.key(3), reach=20.0, steps=500, directions=8)
    found = basins.smallest_perturbation(problem, NGD, start, rounds=3, **how)
    rough = basins.smallest_perturbation(problem, NGD, start, rounds=0, **how)
    hit = np.isfinite(found.size)
    assert hit.any() and (found.size <= rough.size + 1e-9).all() and (found.size < 0.9 * rough.size)[hit].mean() > 0.5
    fates = jaxsim.simulate(
        problem, NGD, jaxsim.init.Reduced((start + found.delta)[hit]), key=jax.random.key(0), lanes=int(hit.sum()),
        steps=500, record=[500],
    )  # fmt: skip
    goes = (fates.selection == problem.optimal).all(1)
    np.testing.assert_array_equal(goes, ~found.optimal[hit])
    np.testing.assert_array_equal(fates.selection, found.selection[hit])
    few = basins.smallest_perturbation(problem, NGD, start[:3], rounds=0, **how)
    np.testing.assert_array_equal(few.delta, rough.delta[:3])  # a lane's search does not depend on its company
    assert 0 < found.quantile(0.1) <= found.quantile(0.9)
    found.save(tmp_path / "found.npz")
    np.testing.assert_array_equal(basins.Perturbations.load(tmp_path / "found.npz").size, found.size)
    with pytest.raises(ValueError, match="reach: expected a number above 0"):
        basins.smallest_perturbation(problem, NGD, start, key=jax.random.key(0), reach=0.0)


def test_a_change_of_selection_is_never_farther_than_one_of_the_verdict_along_a_line(problem, run):
    local = run.start[run.verdict == "local"][:12]
    how = dict(key=jax.random.key(3), reach=20.0, steps=500, directions=8, rounds=0)
    verdict = basins.smallest_perturbation(problem, NGD, local, **how)
    found = basins.smallest_perturbation(problem, NGD, local, changes="selection", **how)
    before, after = (
        jaxsim.simulate(
            problem, NGD, jaxsim.init.Reduced(xi), key=jax.random.key(0), lanes=12, steps=500, record=[500]
        ).selection
        for xi in (local, local + found.delta)
    )
    assert np.isfinite(found.size).all()
    assert (before != after).any(1).all() and (found.selection == after).all()
    assert (found.size <= 2 * verdict.size).all()  # the first of the doubled radii with a crossing is no larger
    assert ((found.selection != problem.optimal).any(1) & (found.size < verdict.size)).any()  # to another local one
    with pytest.raises(ValueError, match="changes: expected 'global' or 'selection'; got 'all'"):
        basins.smallest_perturbation(problem, NGD, local, **how | {"changes": "all"})


def test_pixels_are_starts_that_any_run_can_take(problem, plane):
    pixels = basins.Pixels(plane, (-4, 4, -3, 5), (9, 6))
    how = dict(key=jax.random.key(0), steps=1000, dtype="float64")
    found = basins.basin_map(problem, NGD, plane, window=(-4, 4, -3, 5), resolution=(9, 6), steps=1000, dtype="float64")
    run = jaxsim.simulate(problem, NGD, pixels, lanes=54, **how)
    assert run.verdict.tolist() == [VERDICTS[k] for k in found.verdict.ravel()]
    part = jaxsim.simulate(problem, NGD, pixels, lanes=20, first=34, **how)
    np.testing.assert_array_equal(part.start, run.start[34:])
    np.testing.assert_allclose(
        np.linalg.norm(pixels.span(np.array([0])).weights[0, 1:]), np.hypot(pixels.a[0], pixels.b[0])
    )
    with pytest.raises(ValueError, match=r"lanes: expected at most one per pixel, 9 × 6 = 54; got 55"):
        jaxsim.simulate(problem, NGD, pixels, lanes=55, **how)
