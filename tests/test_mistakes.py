"""Mistakes that look right: what was meant is done, or the message says what was expected."""

import jax
import numpy as np
import pytest

import jaxsim
from jaxsim import rules


@pytest.fixture(scope="module")
def run(problem):
    return jaxsim.simulate(
        problem, rules.NGD(0.1), jaxsim.init.Gaussian(0.1), key=jax.random.key(1), lanes=8, steps=100
    )


@pytest.mark.parametrize("wrong", [[0.1, "x"], (None,), [], None, {}, {"eta": 0.1}, object(), [[0.1], [0.2]]])
@pytest.mark.parametrize("rule", [rules.NGD, rules.GD, rules.Polyak, rules.Adam, rules.HeavyBall])
def test_a_step_size_is_one_number_or_a_schedule(rule, wrong):
    with pytest.raises(ValueError, match=r"^(eta|scale)(\[\d\])?: expected (a|one) number"):
        rule(wrong)


def test_a_run_in_place_of_its_problem(run):
    for function in (jaxsim.max_margin, jaxsim.MarginSolver):
        with pytest.raises(ValueError, match=r"^problem: expected a jaxsim.Problem; got Run; its \.problem is one"):
            function(run)
        with pytest.raises(ValueError, match=r"^problem: expected a jaxsim.Problem; got list$"):
            function([1.0])


def test_one_run_in_place_of_several(run):
    bars = jaxsim.plot.verdict_bars(run)
    assert [text.get_text() for text in bars.get_yticklabels()] == [run.label]
    assert jaxsim.plot.trajectories(run) is not None
    with pytest.raises(ValueError, match="^runs: expected one jaxsim.Run or several; got a str in place of one"):
        jaxsim.plot.verdict_bars(["run"])


def test_arrays_of_a_file_that_nobody_reads(problem, tmp_path):
    arrays = {name: getattr(problem, name) for name in ("tokens", "queries", "labels", "decoder")}
    np.savez(tmp_path / "masks.npz", **arrays, masks=problem.visible)
    for load in (jaxsim.data.load, jaxsim.data.load_split):
        with pytest.raises(
            ValueError, match=r"masks\.npz' holds 'masks', which nobody reads; the nearest name is 'mask'"
        ):
            load(tmp_path / "masks.npz")
    np.savez(tmp_path / "more.npz", **arrays, zzz=1.0)
    with pytest.raises(ValueError, match=r"holds 'zzz', which nobody reads; expected some of tokens, queries"):
        jaxsim.data.load(tmp_path / "more.npz")
    np.savez(tmp_path / "split.npz", **arrays, test_tokens=problem.tokens, test_queries=problem.queries,
             test_labels=problem.labels)  # fmt: skip
    assert jaxsim.data.load(tmp_path / "split.npz").shape == problem.shape
    assert jaxsim.data.load_split(tmp_path / "split.npz")[1] is not None
