"""Border geometry on maps with known answers."""

import numpy as np
import pytest

from jaxsim.basins import basin_entropy, intermingledness, uncertainty_exponent
from jaxsim.basins.bisection import bisect, nearest_crossing


@pytest.fixture(scope="module")
def newton():
    """Basins of Newton's iteration for z³ = 1 on a 600 × 600 grid."""
    x = np.linspace(-1.0, 1.0, 600)
    z = x[None] + 1j * x[:, None]
    for _ in range(60):
        z = z - (z**3 - 1) / (3 * z**2)
    return np.abs(z[..., None] - np.exp(2j * np.pi * np.arange(3) / 3)).argmin(-1)


def straight(size=200):
    return np.broadcast_to((np.arange(size) >= 77).astype(int), (size, size))


def test_entropy_of_a_straight_border_that_halves_boxes_is_log_2():
    found = basin_entropy(np.broadcast_to((np.arange(100) >= 52).astype(int), (100, 100)), side=4)
    assert found.boundary_boxes == 0 and np.isnan(found.boundary_entropy) and found.entropy == 0
    found = basin_entropy(np.broadcast_to((np.arange(100) >= 50).astype(int), (100, 100)), side=4)
    assert found.boundary_boxes == 25 and found.boxes == 625
    assert found.boundary_entropy == pytest.approx(np.log(2), rel=1e-12)
    assert found.entropy == pytest.approx(np.log(2) * 25 / 625, rel=1e-12)
    assert not found.fractal


def test_entropy_of_three_labels_by_hand():
    box = np.array([[0, 0, 1], [0, 0, 1], [7, 7, 1]])
    p = np.array([4, 3, 2]) / 9
    assert basin_entropy(box, side=3).entropy == pytest.approx(-np.sum(p * np.log(p)), rel=1e-12)


def test_a_straight_border_has_exponent_one():
    found = uncertainty_exponent(straight())
    assert found.exponent == pytest.approx(1.0, abs=1e-9)
    slanted = (np.add.outer(0.37 * np.arange(300), np.arange(300)) > 200).astype(int)
    found = uncertainty_exponent(slanted)
    assert found.low <= 1 <= found.high and abs(found.exponent - 1) < 0.02


def test_an_interval_that_rests_on_few_blocks_is_not_given():
    """Discs have α = 1; small ones meet few of the 64 blocks that the interval is made of. 200 discs: misses of 5% rise
    to 11% with probability below 1e-3."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:200, :200] / 200
    found = []
    for radius in np.repeat([0.04, 0.08, 0.25], (80, 80, 40)):
        a, b = rng.uniform(0.15, 0.85, 2)
        found.append(uncertainty_exponent(((x - a) ** 2 + (y - b) ** 2 < radius**2).astype(int)))
    given = np.array([np.isfinite(one.low) for one in found])
    wrong = np.array([one.low > 1 or one.high < 1 for one in found])
    assert given[160:].all()
    assert wrong[:80].mean() < 0.05 and wrong[80:160].mean() < 0.05 and wrong[160:].mean() < 0.05
    assert all(np.isfinite(one.exponent) for one in found)


def test_newtons_basins(newton):
    """Published box-counting dimension 1.42, so α near 0.58; the border is fractal: S_bb > log 2 in small boxes."""
    found = uncertainty_exponent(newton)
    assert found.low <= 0.58 <= found.high and found.high - found.low < 0.12
    assert basin_entropy(newton, side=4).fractal
    boxes = np.array([8, 16, 32, 64])  # the same dimension by counting boxes that hold more than one label
    count = [basin_entropy(newton, side=int(s)).boundary_boxes for s in boxes]
    assert -np.polyfit(np.log(boxes), np.log(count), 1)[0] == pytest.approx(found.dimension, abs=0.06)


def test_random_labels_are_intermingled_and_smooth_borders_are_not():
    noise = np.random.default_rng(0).integers(0, 2, (300, 300))
    assert uncertainty_exponent(noise, (2, 10)).exponent < 0.02
    names, P = intermingledness(noise, (1, 8))
    assert names.tolist() == [0, 1] and np.abs(P - 0.5).max() < 0.02  # 360,000 pairs: 0.02 is 24 standard deviations
    _, P = intermingledness(straight(), (1, 2, 4))
    across = P[:, 0, 1]
    np.testing.assert_allclose(across[1:] / across[:-1], 2, rtol=0.02)  # in proportion to the step
    np.testing.assert_allclose(P.sum(2), 1, rtol=1e-12)


def test_bad_maps():
    with pytest.raises(ValueError, match="labels: expected integers of shape"):
        basin_entropy(np.zeros((4, 4)))
    with pytest.raises(ValueError, match="side: expected at most 4"):
        basin_entropy(np.zeros((4, 9), int), side=5)
    with pytest.raises(ValueError, match="at least 30 uncertain pixels at ε = 2; got 0"):
        uncertainty_exponent(np.zeros((100, 100), int), (2, 6))
    with pytest.raises(ValueError, match="window: expected a range"):
        uncertainty_exponent(np.zeros((30, 30), int))
    with pytest.raises(ValueError, match="window: expected a map of at least 24 pixels a side for ε = 8; got 22"):
        uncertainty_exponent(np.random.default_rng(0).integers(0, 2, (60, 22)), (2, 8))
    with pytest.raises(ValueError, match="radii: expected less than half of 30"):
        intermingledness(np.zeros((30, 30), int), (30,))


def test_bisection_ends_on_the_border_of_a_half_space():
    rng = np.random.default_rng(0)
    normal = rng.standard_normal(6)

    def side(x):
        return x @ normal > 0.5

    ends = rng.standard_normal((200, 6)) * 5
    a, b = bisect(
        side, ends + (6 - ends @ normal)[:, None] * normal, ends - (6 + ends @ normal)[:, None] * normal, 1e-10
    )
    assert side(a).all() and not side(b).any()
    assert np.linalg.norm(a - b, axis=1).max() <= 1e-10
    assert np.abs(a @ normal - 0.5).max() <= 1e-9


@pytest.mark.parametrize("shape", ["plane", "ball"])
def test_the_shortest_way_over_a_known_border_is_found(shape):
    """Within 3% in 12 dimensions, where the best of 32 random directions alone is twice too long."""
    rng = np.random.default_rng(1)
    normal = np.eye(12)[3]
    if shape == "plane":
        centre = rng.standard_normal((40, 12)) * 0.5
        true = np.abs(centre @ normal - 1.5)
        found = _search(lambda x: x @ normal < 1.5, centre)
    else:
        centre = rng.standard_normal((40, 12)) * 0.3
        true = np.abs(2 - np.linalg.norm(centre, axis=1))
        found = _search(lambda x: np.linalg.norm(x, axis=1) < 2, centre)
    ratio = np.linalg.norm(found, axis=1) / true
    assert ratio.min() > 1 - 1e-3 and np.median(ratio) < 1.03 and ratio.max() < 1.12


def _search(side, centre):
    rngs = [np.random.default_rng(k) for k in range(len(centre))]
    found = nearest_crossing(side, centre, np.eye(centre.shape[1]), rngs, reach=20.0, tolerance=1e-6)
    assert (side(centre + found) != side(centre)).all()
    return found


def test_a_centre_without_a_border_in_reach_says_so():
    found = nearest_crossing(
        lambda x: x[:, 0] > -100, np.zeros((2, 3)), np.eye(3), [np.random.default_rng(k) for k in (0, 1)], 10.0, 1e-3
    )
    assert np.isnan(found).all()
