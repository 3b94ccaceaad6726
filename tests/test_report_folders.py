"""Pages about folders that commands wrote, and about results in memory."""

import json

import jax
import numpy as np
import pytest
from commands import invoke
from matplotlib.figure import Figure

import jaxsim
from jaxsim import report, storage
from jaxsim.reproduce import pages
from jaxsim.reproduce.result import Result, Row

SIZE = ["--data", "unit-sphere", "--n", "3", "--tokens", "4", "--dim", "5"]
PLANE = ["--plane", "random"]


@pytest.fixture(scope="module")
def run():
    problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5)
    key = jax.random.key(1)
    return jaxsim.simulate(problem, jaxsim.rules.NGD(0.1), jaxsim.init.Gaussian(1.0), key=key, lanes=16, steps=200)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["geometry", *SIZE, "--steps", "200", "--lanes", "2"], ("nearest to", "Share of the best margin")),
        (["basin", *SIZE, "--resolution", "6", "--steps", "99", *PLANE, "--versus", "gd=1"], ("Verdicts differ on",)),
        (["head", "--classes", "0,1", "--lanes", "2", "--steps", "20", "--rule", "ngd=0.1"], ("% test accuracy",)),
    ],
    ids=lambda value: value[0],
)  # fmt: skip
def test_what_a_command_wrote_has_a_page(command, words, tmp_path):
    done = invoke(*command, "--out", "made", cwd=tmp_path)
    assert done.code == 0, done.err
    done = invoke("report", "made", cwd=tmp_path)
    assert done.code == 0 and done.out.startswith("made/report.html"), done.err
    text = (tmp_path / "made" / "report.html").read_text()
    assert all(word in text for word in words) and "data:image/png;base64," in text and "<script" not in text
    assert f"jaxsim {command[0]}" in text


def test_a_replay_has_a_page(run, tmp_path):
    again = jaxsim.simulate(
        run.problem, jaxsim.rules.NGD(0.1), jaxsim.init.Gaussian(1.0), key=jax.random.key(1), lanes=1, steps=200,
        keep=("logits", "coeffs"),
    )  # fmt: skip
    storage.write_replay(tmp_path, again, {"command": "jaxsim replay DIR --lane 0"})
    text = report.write(tmp_path).read_text()
    assert "one lane" in text and f"{again.verdict[0]} after 200 steps" in text and "replay DIR --lane 0" in text


def experiment(place):
    figure = Figure()
    figure.subplots().plot([0, 1], [0, 1])
    rows = (Row("a number", 0.5, published=0.5), Row("another <b>", 0.5, published=0.9), Row("a third", np.nan))
    pages.save(Result("toy", "A toy", "somebody", "few", rows, figure, {}, ("a curve",)), place)


def test_an_experiment_has_a_page_and_so_have_all(tmp_path):
    for name in ("one", "all"):
        place = tmp_path / name
        storage_of = place if name == "one" else place / "toy"
        storage_of.mkdir(parents=True)
        experiment(storage_of)
        storage.write_json(place, settings={"command": "jaxsim reproduce toy"}, environment={"python": "3"})
        text = report.write(place).read_text()
        assert "1 of 2 published numbers agree" in text and "another &lt;b&gt;" in text and "differs" in text
        assert "Not reproduced: a curve" in text


def test_results_in_memory_have_a_page(run, tmp_path):
    for k, what in enumerate((run, [run], {"spheres": [run]})):
        text = report.write(what, tmp_path / f"{k}.html").read_text()
        assert f"{run.lanes:,} random starts" in text and run.label in text
    with pytest.raises(ValueError, match="to: expected the name of a file"):
        report.write(run)
    with pytest.raises(ValueError, match="what: expected a folder, a Run, or runs by problem; got int"):
        report.write(3, tmp_path / "x.html")  # type: ignore[arg-type]
    other = jaxsim.simulate(
        run.problem, jaxsim.rules.GD(1.0), jaxsim.init.Gaussian(1.0), key=jax.random.key(1), lanes=4, steps=10
    )
    with pytest.raises(ValueError, match="the same rules for every problem"):
        report.write({"a": [run], "b": [other]}, tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("rows.json", b"[]", "expected an object"),
        ("rows.json", json.dumps({"title": "x"}).encode(), "source: missing"),
        ("figure.png", b"GIF89a", "no PNG"),
        ("settings.json", b"\xff", "is not JSON"),
        ("environment.json", None, "No such file"),
    ],
)
def test_a_damaged_folder_is_named(file, content, said, tmp_path):
    experiment(tmp_path)
    storage.write_json(tmp_path, settings={"command": "jaxsim reproduce toy"}, environment={"python": "3"})
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match=said) as error:
        report.write(tmp_path)
    assert file in str(error.value) and not (tmp_path / "report.html").exists()


def test_pages_have_contents_and_a_dark_and_a_printed_form(run, tmp_path):
    text = report.write(run, tmp_path / "page.html").read_text()
    for part in ('aria-label="Contents"', "prefers-color-scheme: dark", "@media print"):
        assert part in text
    for place in ("bars-title", "numbers", "again", "settings"):
        assert f'href="#{place}"' in text and f'id="{place}"' in text
