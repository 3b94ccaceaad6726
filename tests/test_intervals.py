"""Every interval that is printed covers what it says, or is not printed: exactly by enumeration where possible."""

import numpy as np
import pytest
import scipy.special
import scipy.stats

import jaxsim
from jaxsim import basins
from jaxsim.analysis import fit_rate, wilson_bounds
from jaxsim.basins.comparison import paired_bounds

STEPS = np.array([0, 10, 20, 40, 70, 100])
ROUNDING = 1e-12


def exponents(rng, kind, lanes):
    """Slopes of lanes, with median -1."""
    z = rng.standard_normal(lanes)
    if kind == "skewed":
        return -1 + 0.1 * np.expm1(1.5 * z)
    if kind == "unequal":  # every lane has a spread of its own
        return -1 + 0.02 * z * rng.permutation(np.geomspace(0.1, 10, lanes))
    return -1 + 0.05 * z


@pytest.mark.parametrize("kind", ["normal", "skewed", "unequal"])
@pytest.mark.parametrize("lanes", [6, 7, 8, 12, 20])
def test_rates_of_few_lanes_are_covered(kind, lanes):
    """1,000 samples: a coverage of 95% falls to 92.5% with probability below 1e-3."""
    rng = np.random.default_rng([lanes, len(kind)])
    covered = 0
    for _ in range(1000):
        rate = fit_rate(STEPS, np.maximum(STEPS, 1.0) ** exponents(rng, kind, lanes)[:, None])
        covered += rate.low <= -1 <= rate.high
    assert covered / 1000 > 0.925


@pytest.mark.parametrize("lanes", [1, 2, 3, 4, 5])
def test_rates_of_fewer_than_six_lanes_have_no_interval(lanes):
    rng = np.random.default_rng(lanes)
    rate = fit_rate(STEPS, np.maximum(STEPS, 1.0) ** exponents(rng, "normal", lanes)[:, None])
    assert np.isfinite(rate.slope) and np.isnan(rate.low) and np.isnan(rate.high)


def trinomial(n, b, c, p, q):
    """P(b lanes only first, c only second) of n, and of no fewer or more."""
    rest = n - b - c
    log = scipy.special.gammaln(n + 1) - sum(scipy.special.gammaln(np.maximum(k, 0) + 1) for k in (b, c, rest))
    log += scipy.special.xlogy(b, p) + scipy.special.xlogy(c, q)
    log += scipy.special.xlogy(np.maximum(rest, 0), max(0.0, 1 - p - q))
    return np.where(rest >= 0, np.exp(log), 0.0)


def misses(low, high, chance, truth):
    return float((chance * ((low > truth + ROUNDING) | (high < truth - ROUNDING))).sum())


def ends(difference, *arguments):
    """The two ends for arrays of counts, one by one."""
    found = [difference(*each) for each in zip(*(a.tolist() for a in arguments), strict=True)]
    return np.array([d.low for d in found]), np.array([d.high for d in found])


SHARES = (0.0, 1e-3, 0.01, 0.03, 0.1, 0.17, 0.2, 0.3, 0.4, 0.5)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 13, 20, 40])
def test_paired_differences_are_covered_for_few_lanes(n):
    b, c = np.nonzero(np.add.outer(np.arange(n + 1), np.arange(n + 1)) <= n)
    low, high = ends(basins.paired_difference, b, c, np.full(b.shape, n))
    worst = max(misses(low, high, trinomial(n, b, c, p, q), p - q) for p in SHARES for q in SHARES)
    assert worst <= 0.05


@pytest.mark.parametrize("n", [100, 1000, 100_000])
def test_paired_differences_are_covered_where_rules_hardly_differ(n):
    """Discordant probabilities of up to ten lanes in n, among them 2 in 1000."""
    b, c = (part.ravel() for part in np.meshgrid(np.arange(50), np.arange(50)))
    low, high = ends(basins.paired_difference, b, c, np.full(b.shape, n))
    few = np.array([0.0, 0.05, 0.2, 0.5, 1.0, 2.0, 3.7, 5.5, 10.0]) / n
    worst = max(misses(low, high, trinomial(n, b, c, p, q), p - q) for p in few for q in few)
    assert worst <= 0.05


@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 2), (5, 5), (3, 12), (20, 20), (40, 10)])
def test_unpaired_differences_are_covered(n, m):
    x, y = (part.ravel() for part in np.meshgrid(np.arange(n + 1), np.arange(m + 1)))
    low, high = ends(basins.unpaired_difference, x, np.full(x.shape, n), y, np.full(x.shape, m))
    grid = np.unique(
        [0.0, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.97, 0.99, 1.0, 0.3 / n, 1 - 0.3 / n]
    )
    chances = {p: (scipy.stats.binom.pmf(x, n, p), scipy.stats.binom.pmf(y, m, p)) for p in grid}
    worst = max(misses(low, high, chances[p][0] * chances[q][1], p - q) for p in grid for q in grid)
    assert worst <= 0.05


def around(n, p):
    """Counts of n that occur with chance p: all but 1e-12 of them."""
    width = 7.5 * np.sqrt(n * p * (1 - p)) + 30
    return np.arange(max(0, int(n * p - width)), min(n, int(n * p + width)) + 1)


def missed_by_pairs(n, p, q):
    b, c = np.meshgrid(around(n, p), around(n, q))
    low, high = paired_bounds(b, c, n)
    return misses(low, high, trinomial(n, b, c, p, q), p - q)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 3, 6, 10, 30, 100, 1000, 100_000])
def test_paired_differences_are_covered_over_the_whole_grid(n):
    """p, q from 0 to 1/2; along p + q = 1 - a few lanes; and up to 30 lanes in n, next to the ends of intervals."""
    grid = np.linspace(0, 0.5, 11 if n <= 1000 else 3)
    pairs = [(p, q) for p in grid for q in grid if q <= p]
    pairs += [
        (1 - k / n, share * k / n) for k in np.geomspace(0.02, 12, 15) for share in (0, 0.3, 0.8, 1) if 2 * k <= n
    ]
    assert max(missed_by_pairs(n, p, q) for p, q in pairs) <= 0.05
    b, c = (part.ravel() for part in np.meshgrid(np.arange(min(n, 100) + 1), np.arange(min(n, 100) + 1)))
    b, c = b[b + c <= n], c[b + c <= n]
    low, high = paired_bounds(b, c, n)
    few = (b < 20) & (c < 20)
    jumps = np.unique(np.concatenate([low[few], high[few]]))[::9]
    worst = 0.0
    for q in np.array([0, 0.01, 0.1, 0.3, 1, 2, 5, 12, 30]) / n:
        for difference in jumps[(jumps > 0) & (jumps * n < 30) & (jumps + 2 * q <= 1)] + 1e-9 / n:
            worst = max(worst, misses(low, high, trinomial(n, b, c, q + difference, q), difference))
    assert worst <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m"), [(1, 2), (3, 3), (7, 7), (10, 12), (12, 20), (60, 80), (30, 200)])
def test_unpaired_differences_are_covered_over_the_whole_square(n, m):
    x, y = np.arange(n + 1), np.arange(m + 1)
    found = [[basins.unpaired_difference(a, n, b, m) for b in y.tolist()] for a in x.tolist()]
    low, high = (np.array([[getattr(d, name) for d in row] for row in found]) for name in ("low", "high"))
    near = np.concatenate([np.geomspace(0.01, 8, 25) / k for k in (n, m)])
    grid = np.unique(np.concatenate([np.linspace(0, 1, 41), near[near <= 1], 1 - near[near <= 1]]))
    first, second = (np.array([scipy.stats.binom.pmf(k, k[-1], p) for p in grid]) for k in (x, y))
    for p, chance in zip(grid, first, strict=True):
        for q, other in zip(grid, second, strict=True):
            missed = (low > p - q + ROUNDING) | (high < p - q - ROUNDING)
            assert chance @ missed @ other <= 0.05


def coverage_of_a_proportion(bounds, total, shares):
    count = np.arange(total + 1)
    low, high = bounds(count, np.full(count.shape, total))
    return [1 - misses(low, high, scipy.stats.binom.pmf(count, total, p), p) for p in shares]


def just_beside_the_ends(bounds, total):
    """Where coverage is least: coverage jumps at the ends of intervals."""
    ends_ = np.concatenate(bounds(np.arange(total + 1), np.full(total + 1, total)))
    ends_ = ends_[(ends_ > 0) & (ends_ < 1)]
    return np.concatenate([ends_ * (1 - 1e-9), ends_ * (1 + 1e-9)])


@pytest.mark.parametrize("total", [1, 2, 5, 10, 30, 100, 1000])
def test_wilson_covers_what_its_docstring_says(total):
    """On average over fractions 95%; at worst far less, where a verdict is so rare that hardly a lane is expected."""
    worst = min(coverage_of_a_proportion(wilson_bounds, total, just_beside_the_ends(wilson_bounds, total)))
    assert worst >= (0.83 if total >= 5 else 0.79)
    if total >= 10:
        beside = just_beside_the_ends(wilson_bounds, total)
        assert min(coverage_of_a_proportion(wilson_bounds, total, beside[abs(beside - 0.5) <= 0.5 - 1 / total])) >= 0.91
    assert np.mean(coverage_of_a_proportion(wilson_bounds, total, np.linspace(0.0005, 0.9995, 1000))) >= 0.95


@pytest.mark.parametrize("total", [1, 2, 5, 10, 30, 100, 1000])
@pytest.mark.parametrize("name", ["anytime_bounds", "exact_bounds"])
def test_exact_and_anytime_bounds_cover_every_fraction(total, name):
    bounds = getattr(jaxsim.analysis, name)
    shares = np.concatenate([just_beside_the_ends(bounds, total), [0.0, 1e-9, 1e-6, 1 - 1e-6, 1.0]])
    assert min(coverage_of_a_proportion(bounds, total, shares)) >= 0.95 - ROUNDING


def test_means_over_pairs_are_covered_and_printed_only_then():
    """1,000 studies of 45 and of 3 pairs: a coverage of 95% falls to 92.5% with probability below 1e-3."""
    rng = np.random.default_rng(0)
    for pairs in (3, 45):
        values = rng.standard_normal((pairs, 1000, 1, 1))
        found = jaxsim.head.Heads(
            pairs=[str(k) for k in range(pairs)], rules=[str(k) for k in range(1000)], labels=[""] * 1000,
            steps=np.array([1]), curves={"norm": values}, saturated=np.zeros((pairs, 1000, 1), bool),
            settings={}, seconds=np.zeros((pairs, 1000)),
        )  # fmt: skip
        _, low, high = found.interval("norm")
        assert np.mean((low <= 0) & (high >= 0)) > 0.925
        assert found.has_interval == (pairs >= 20)
