"""Verdicts are explained in the same words everywhere, and what is a prediction is called one."""

import html
import pathlib

import jax
import pytest

import jaxsim
from jaxsim import study as studies
from jaxsim.analysis import verdict
from jaxsim.cli import table

ROOT = pathlib.Path(__file__).parents[1]


def flat(text):
    return " ".join(html.unescape(text).split())


def test_every_verdict_has_its_meaning():
    assert tuple(verdict.MEANINGS) == jaxsim.analysis.VERDICTS
    assert "prediction" in verdict.PREDICTION and "GD" in verdict.PREDICTION


@pytest.mark.parametrize("where", ["by_selection", "Run", "README"])
def test_texts_say_that_local_is_a_prediction(where):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    text = {"by_selection": verdict.by_selection.__doc__, "Run": jaxsim.Run.__doc__, "README": readme}[where]
    assert verdict.PREDICTION in flat(text or "")


def test_the_table_of_a_run_says_it(tmp_path, capsys):
    table.closing(tmp_path, 1.0)
    said = flat(capsys.readouterr().out)
    assert verdict.PREDICTION in said
    assert all(f"{name}: {verdict.MEANINGS[name]}" in said for name in ("global", "local", "transient", "unresolved"))


def test_reports_and_studies_say_it(tmp_path):
    from typer.testing import CliRunner

    from jaxsim.cli.study import app as cli

    spec = studies.Study.model_validate(
        {
            "name": "short", "seed": 0, "steps": 20, "shard": 10,
            "problem": [{"family": "unit-sphere", "n": 2, "T": 3, "d": 4}], "init": [{"law": "gaussian", "scale": 1.0}],
            "rule": [{"name": "gd", "eta": 1.0}], "stop": {"lanes": 10},
        }
    )  # fmt: skip
    studies.run(spec, tmp_path / "s")
    page = flat(jaxsim.report.write(tmp_path / "s").read_text(encoding="utf-8"))
    assert verdict.PREDICTION in page
    assert all(f"{name}: {meaning}" in page for name, meaning in verdict.MEANINGS.items())
    assert verdict.PREDICTION in flat(CliRunner().invoke(cli, ["status", str(tmp_path / "s")]).output)


@pytest.mark.slow
def test_some_lanes_that_gd_calls_local_move_and_none_of_ngd_do():
    """What the words are about: the same 300 lanes at two horizons."""
    problem = jaxsim.data.unit_sphere(jax.random.key(7), n=4, T=5, d=8)
    share = {}
    for rule in (jaxsim.rules.GD(10.0), jaxsim.rules.NGD(0.5)):
        early, late = (
            jaxsim.simulate(
                problem, rule, jaxsim.init.Gaussian(3.0), key=jax.random.key(0), lanes=300, steps=steps, record=[steps]
            )
            for steps in (2000, 60_000)
        )
        local = early.verdict == "local"
        moved = local & (early.selection != late.selection).any(1)
        print(f"{rule}: {local.sum()} local at 2,000 steps, {moved.sum()} moved by 60,000, "
              f"{(moved & (late.verdict == 'global')).sum()} to global")  # fmt: skip
        share[rule.__class__.__name__] = moved.sum() / local.sum()
    assert 0.01 < share["GD"] < 0.2 and share["NGD"] == 0
