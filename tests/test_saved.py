"""Every result saves, loads, says in three lines what it is, and shows a table in a notebook."""

import dataclasses

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest

import jaxsim
from jaxsim import basins, init, rules
from jaxsim.analysis import Sketch
from jaxsim.plot import FIGURES

KEY = jax.random.key(1)
NGD = rules.NGD(0.1)


def made():
    problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5)
    how = dict(key=KEY, lanes=20, steps=100)
    digits = jaxsim.data.digits_split((3, 8), images=12)
    run = jaxsim.simulate(problem, NGD, init.Gaussian(1.0), **how)
    polyak = jaxsim.simulate(problem, rules.Polyak(), init.Gaussian(1.0), **how)
    yield run
    joint = jaxsim.simulate(problem, NGD, init.Gaussian(1.0), train=jaxsim.train.Joint(), keep=["logits"], **how)
    yield joint
    yield jaxsim.survey(problem, rules.Polyak(), init.Sphere(2.0), **how)
    yield jaxsim.regress(np.eye(3), [1, -1, 1], NGD, init.Gaussian(1.0), **how)
    yield jaxsim.geometry(problem, [NGD, rules.SignDescent(0.02)], key=KEY, lanes=2, steps=500)
    yield jaxsim.heads({"3,8": digits}, [NGD, rules.Polyak()], key=KEY, lanes=2, steps=10)
    yield basins.basin_map(problem, NGD, basins.random_plane(problem, KEY), resolution=(6, 4), steps=100)
    yield basins.shells(problem, NGD, [1.0, 3.0], key=KEY, lanes=20, steps=100)
    yield basins.compare(run, polyak)
    yield basins.continuation(lambda eta: (problem, rules.NGD(eta), init.Gaussian(1.0)), [0.1, 0.2], **how)
    yield basins.smallest_perturbation(problem, NGD, run.start[:2], key=KEY, reach=3.0, steps=100, rounds=1)
    yield basins.jumps(joint)


@pytest.fixture(scope="module")
def results():
    found = list(made())
    assert len({type(result) for result in found}) == len(found) - 1
    return found


def equal(a, b):
    if isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for name in a:
            equal(a[name], b[name])
    elif isinstance(a, Sketch):
        equal(vars(a), vars(b))
    elif isinstance(a, jaxsim.Problem):
        assert a.fingerprint() == b.fingerprint()
    else:
        assert a == b or (a != a and b != b)


def test_what_is_saved_comes_back(results, tmp_path):
    for k, result in enumerate(results):
        path = tmp_path / f"{k}.npz"
        result.save(path)
        again = type(result).load(path)
        for field in dataclasses.fields(result):
            equal(getattr(result, field.name), getattr(again, field.name))
        before = path.read_bytes()
        with pytest.raises(ValueError, match="path: expected a new file; .*; overwrite=True replaces it"):
            result.save(path)
        assert path.read_bytes() == before
        result.save(path, overwrite=True)
        other = results[k - 1]
        if type(other) is not type(result):
            with pytest.raises(
                ValueError, match=f"path: expected a saved {other.kind} at .*; it holds a {result.kind}"
            ):
                type(other).load(path)


def test_they_say_what_they_are(results):
    for result in results:
        lines = repr(result).splitlines()
        assert 1 <= len(lines) <= 3 and lines[0].startswith(type(result).__name__)
        assert all(len(line) <= 100 for line in lines)
        page = result._repr_html_()
        assert page.startswith("<p><b>") and page.count("<table>") == 1 == page.count("</table>")


def test_text_in_a_notebook_is_text(results):
    run = results[0]
    page = dataclasses.replace(run, settings=run.settings | {"rule": "<script>"})._repr_html_()
    assert "<script>" not in page and "&lt;script&gt;" in page


def test_every_figure_of_a_result_is_drawn(results):
    for result in results:
        if type(result) in FIGURES:
            assert result.plot() is not None
            plt.close("all")
        else:
            with pytest.raises(ValueError, match="result: expected one that has a figure"):
                result.plot()
