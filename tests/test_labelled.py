"""Runs and surveys as data sets of xarray."""

import jax
import numpy as np
import pytest
import xarray

import jaxsim
from jaxsim.results.labelled import QUANTILES

KEY = jax.random.key(1)


@pytest.fixture(scope="module")
def run():
    problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5)
    how = dict(key=KEY, lanes=16, steps=300, keep=("logits",), first=4)
    return jaxsim.simulate(problem, jaxsim.rules.Polyak(), jaxsim.init.Gaussian(1.0), train=jaxsim.train.Joint(), **how)


def test_a_run_has_names_units_and_settings(run):
    found = run.to_xarray()
    assert found.direction_error.dims == ("lane", "step") and found.logits.dims == ("lane", "step", "sequence", "token")
    assert found.lane.values.tolist() == list(range(4, 20)) and found.step.values.tolist() == run.steps.tolist()
    for name in ("direction_error", "norm", "log10_gap", *run.more_curves, "final_logits", "selection"):
        value = run.more_curves.get(name) if name in run.more_curves else getattr(run, name)
        np.testing.assert_array_equal(found[name], value)
    np.testing.assert_array_equal(found.capped_steps, run.report["capped_steps"])
    assert found.direction_error.attrs["units"] == "1" and found.step.attrs["units"] == "step"
    assert found.attrs["rule"] == run.settings["rule"] and found.attrs["steps"] == 300
    assert found.sel(lane=7).verdict.item() == run.verdict[3]


def test_xarray_groups_plots_and_saves_it(run, tmp_path):
    found = run.to_xarray()
    medians = found.norm.groupby("verdict").median()
    name = str(run.verdict[0])
    np.testing.assert_allclose(medians.sel(verdict=name), np.median(run.norm[run.verdict == name], axis=0))
    (line,) = found.norm.sel(lane=5).plot()
    assert line.axes.get_xlabel() == "updates made [step]" and line.axes.get_ylabel() == "‖W‖ [1]"
    found.to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
    with xarray.open_dataset(tmp_path / "run.nc", engine="h5netcdf") as again:
        xarray.testing.assert_equal(again.load(), found)


def test_a_survey_has_its_counts_and_quantiles(run):
    counted = jaxsim.survey(run.problem, jaxsim.rules.NGD(0.1), jaxsim.init.Gaussian(1.0), key=KEY, lanes=64, steps=300)
    found = counted.to_xarray()
    np.testing.assert_array_equal(found["count"], counted.counts)
    assert found["count"].sum() == 64 and found.first_saturated.sum() + found.never_saturated.sum() == 64
    np.testing.assert_array_equal(found.log10_norm.sel(quantile=0.5), counted.quantile("log10_norm", 0.5))
    assert found["quantile"].values.tolist() == list(QUANTILES)
    assert found.fraction.sel(verdict="global") == counted.fractions()["global"].value
