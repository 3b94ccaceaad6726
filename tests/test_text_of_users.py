"""Names that users give are text in every terminal, figure and page: no markup, no escapes, no mathematics."""

import json
import os

import jax
import numpy as np
import pytest
from commands import TOML, invoke
from matplotlib.cbook import is_math_text

import jaxsim
from jaxsim import _text, plot

ESCAPES = "\x1b]0;evil\x07 \x1b[2J \u202e"
STEM = f"a [red]b $\\frac{{$ :boom: <i>&amp; {ESCAPES}"  # as a file may be called
STUDY = f"[/x] bad [red] $\\frac{{$ </script><b> {ESCAPES}"
SHORT = ["--steps", "20", "--rule", "ngd=0.1"]


def plain(said):
    """What was printed, after a look that a terminal would obey none of it."""
    text = said.out + said.err
    assert "Traceback" not in text
    assert not [c for c in text if not c.isprintable() and c != "\n"]
    return text


@pytest.fixture
def place(tmp_path):
    for seed, stem in enumerate((STEM, "other")):
        problem = jaxsim.data.unit_sphere(jax.random.key(seed), n=3, T=3, d=4)
        jaxsim.data.save(problem, tmp_path / f"{stem}.npz")
    np.save(tmp_path / f"{STEM}.npy", np.eye(4))
    np.save(tmp_path / "other.npy", np.ones((4, 4)))
    return tmp_path


def page(path):
    """The HTML, after a look that nothing of the names is markup in it."""
    text = path.read_text(encoding="utf-8")
    assert "<i>" not in text and "</script><b>" not in text
    assert not set(ESCAPES) & set(text) - set(" ;0]evil[2J")
    return text


@pytest.mark.slow
def test_a_problem_file_may_have_any_name(place):
    out = f"results of {STEM}"
    said = invoke("run", "--data", f"{STEM}.npz", "--lanes", "4", *SHORT, "--out", out, cwd=place)
    assert said.code == 0, said.err
    shown = plain(said)
    for text in (STEM, out):
        assert _text.printable(text) in " ".join(shown.split())
    assert (place / out / "figure.png").stat().st_size > 1000
    assert list(json.loads((place / out / "summary.json").read_text())) == [_text.printable(STEM)]
    said = invoke("report", out, cwd=place)
    assert said.code == 0 and _text.printable(out) in plain(said)
    page(place / out / "report.html")
    said = invoke("replay", out, "--lane", "1", "--out", f"lane of {STEM}", cwd=place)
    assert said.code == 0 and _text.printable(STEM) in plain(said)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["basin", "--plane", f"{STEM}.npy,other.npy", "--resolution", "4", "--steps", "20"],
        ["head", "--rule", "gd=1", "--lanes", "2", "--steps", "20"],
        ["geometry", "--steps", "20", "--lanes", "1"],
    ],
)
def test_other_commands_take_the_name_too(place, arguments):
    said = invoke(*arguments, "--data", f"{STEM}.npz", cwd=place)
    assert said.code == 0, said.err
    assert _text.printable(STEM) in " ".join(plain(said).split())


def test_a_study_may_have_any_name(place):
    plane = TOML.replace('law = "sphere"\nradius = [0.1, 8]', 'law = "random-plane"\nresolution = [4, 5]')
    text = plane.replace("lanes = 60", "lanes = 20").replace(
        'family = "unit-sphere"\nn = 3\nT = 4\nd = 5',
        f'family = "file"\npath = {json.dumps(f"{STEM}.npz")}',
    )
    (place / "s.toml").write_text(f"name = {json.dumps(STUDY)}\n{text}")
    out = f"of {STEM}"
    for arguments, told in (
        (["run", "s.toml", "--out", out], out),
        (["status", out], STUDY),
        (["verify", out], ""),
        (["plot", out, "--against", "seed", "--to", f"{STEM}.png"], STEM),
        (["map", out], out),
        (["export", out, "--to", f"{STEM}.parquet"], STEM),
    ):
        said = invoke("study", *arguments, cwd=place)
        assert said.code == 0, said.err
        assert _text.printable(told) in plain(said), arguments
    next((place / out).glob("shards/*/*")).unlink()
    said = invoke("study", "status", out, cwd=place)
    assert said.code == 1 and "missing" in plain(said)
    assert invoke("report", out, cwd=place).code == 0
    page(place / out / "report.html")


@pytest.mark.parametrize(
    ("arguments", "quoted"),
    [
        (["run", "--data", f"[/x]{STUDY}.npz"], "[/x] bad [red]"),
        (["run", "--rule", f"{STUDY}=1"], "[/x] bad [red]"),
        (["study", "status", STUDY], "[/x] bad [red]"),
        (["study", "run", STUDY], "[/x] bad [red]"),
        (["report", STUDY], "[/x] bad [red]"),
        (["replay", STUDY, "--lane", "0"], "[/x] bad [red]"),
        (["reproduce", STUDY], "[/x] bad [red]"),
        (["basin", "--plane", STUDY], "[/x] bad [red]"),
        (["run", "--[/x]\x1b[2J"], "--[/x]"),
        (["study", "[red]\x1b[2J"], "[red]"),
        (["run", "--out", f"split[/x]{ESCAPES}", "--init", f"[/x]{ESCAPES}.npy"], "[/x]"),
        (["basin", "--plane", "\udcff[/x].npy,other.npy"], "[/x]"),
    ],
)
def test_errors_quote_what_was_given_as_text(place, arguments, quoted):
    said = invoke(*arguments, cwd=place)
    assert said.code == 2 and quoted in " ".join(plain(said).split())


def test_bytes_that_are_no_text_may_stand_in_names(place):
    name = os.fsdecode(b"odd \xff.npz")
    os.rename(place / "other.npz", place / name)
    said = invoke("run", "--data", name, "--lanes", "4", *SHORT, "--out", "res", cwd=place)
    assert said.code == 0, said.err
    assert "odd \\udcff" in plain(said)
    said = invoke("report", "res", cwd=place)
    assert said.code == 0 and "odd \\udcff" in page(place / "res" / "report.html")


def texts(figure):
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text)]


@pytest.mark.parametrize("name", ["$5 and $6", "$\\frac{$", "\\$a$", "$", "[red]$$"])
def test_dollars_in_a_figure_are_dollars(name, problem, key):
    runs = [jaxsim.simulate(problem, jaxsim.rules.NGD(0.1), jaxsim.init.Gaussian(1.0), key=key, lanes=2, steps=20)]
    space = jaxsim.basins.random_plane(problem, key)
    found = jaxsim.basins.basin_map(problem, jaxsim.rules.NGD(0.1), space, resolution=(3, 3), steps=20, dtype="float64")
    for figure in (plot.overview({name: runs}), plot.maps([found], name)):
        figure.canvas.draw()
        [title] = [text for text in texts(figure) if text.startswith(_text.drawn(name))]
        assert not is_math_text(title)
        assert title.replace("\\$", "$").startswith(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a\\nb"),
        ("\x00", "\\x00"),
        ("é ‖W‖ ✓", "é ‖W‖ ✓"),
        ("\udc80", "\\udc80"),
        ("\u202e", "\\u202e"),
        (" ", " "),
    ],
)
def test_printable_text_obeys_nothing(text, shown):
    assert _text.printable(text) == shown
    assert _text.printable(f"{text}\n", keep="\n") == shown.replace("\\n", "\n") + "\n"


@pytest.mark.parametrize(
    ("text", "encoding", "shown"),
    [
        ("‖W₀‖ – α², φ…", "ascii", "||W0|| - alpha2, phi..."),
        ("‖W₀‖ – α², é×", "latin-1", "||W0|| - alpha², é×"),
        ("中\udc80", "utf-8", "中\\udc80"),
        ("中", "ascii", "\\u4e2d"),
        ("Kᵀ ∝ ∇L", "ascii", "KT ~ grad L"),
        ("any", "no-such-encoding", "any"),
    ],
)
def test_characters_that_a_console_lacks_fall_back(text, encoding, shown):
    assert _text.fitting(text, encoding) == shown
