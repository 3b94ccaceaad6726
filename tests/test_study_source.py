"""Study files that are wrong in any way: each a message a person can act on, never a traceback."""

import re
import subprocess
import sys
import tomllib

import hypothesis
import pytest
from hypothesis import strategies as st
from study_files import TOML, small

from jaxsim import study as studies
from jaxsim.study.toml import line_of

CASES = [
    ("steps = 60", "steps = 0", "line 3: steps: expected at least 1; got 0"),
    ("steps = 60", "stepz = 60", "line 3: stepz: unknown key; expected one of name, seed, steps"),
    ("steps = 60", "", "steps: missing"),
    ("steps = 60", "steps = '60'", "line 3: steps: expected a whole number; got '60'"),
    ("seed = 3", "seed = nan", "line 2: seed: expected a whole number; got nan"),
    ("seed = 3", "seed = -1", "line 2: seed: expected at least 0"),
    ("seed = 3", "seed =", "is not TOML: Invalid value (at line 2"),
    ("seed = 3", "seed = 3\nseed = 4", "is not TOML: Cannot overwrite a value (at line 3"),
    ("shard = 20", "shard = 20\nrecord = [61]", "line 5: record: expected steps up to the horizon 60; got 61"),
    ('"float32"', '"float16"', "line 5: dtype: expected float32 or float64; got 'float16'"),
    ('"unit-sphere"', '"unitsphere"', "line 7: problem[0].family: expected one of digits, orthonormal"),
    ('family = "unit-sphere"', "", "line 6: problem[0].family: expected one of digits, orthonormal, signal-noise"),
    ("n = 3", "n = [3, 3]", "line 8: problem[0].n: expected different values; 3 is given twice"),
    ("n = 3", "n = []", "line 8: problem[0].n: expected at least 1 in the list; got []"),
    ("T = 4", "T = 1", "line 9: problem[0].T: expected at least 2; got 1"),
    ("T = 4", "tokens = 4", "line 9: problem[0].tokens: unknown key; expected one of family, seeds, n, T, d"),
    ('"unit-sphere"', '"orthonormal"', "line 10: problem[0].d: expected at least n·T = 12"),
    ("d = 5", "d = 5\nseeds = [0.5]", "line 11: problem[0].seeds[0]: expected a whole number; got 0.5"),
    ("[0.1, 8]", "[0.1, -8]", "line 13: init[0].radius: expected a number above 0; got -8"),
    ("[0.1, 8]", "true", "line 13: init[0].radius[0]: expected a number; got True"),
    ("[[init]]", "[init]", "line 11: init: expected at least one table [[init]]"),
    ("[[init]]", "[[inits]]", "init: missing"),
    ("[[rule]]", "[[problem.rule]]", "rule: missing"),
    ('"ngd"', '"sgd"', "line 15: rule[0].name: expected one of gd, ngd, polyak"),
    ("eta = [0.1, 0.2]", "", "line 14: rule[0].eta: missing; expected it beside name"),
    ("eta = [0.1, 0.2]", "eta = inf", "rule[0].eta[0]: expected a finite number; got inf"),
    ("eta = [0.1, 0.2]", "eta = [0.1, [0.2]]", "rule[0].eta[1]: expected a number; got [0.2]"),
    ("lanes = 60", "lanes = 70", "line 18: stop.lanes: expected a multiple of shard = 20, such as 80; got 70"),
    ("lanes = 60", "lanes = 60\nhalf_width = 0.1", "stop: expected either lanes or half_width"),
    ("lanes = 60", "half_width = 0.7", "line 18: stop.half_width: expected less than 0.5; got 0.7"),
    ("lanes = 60", "half_width = 0.1\nverdict = 'best'", "line 19: stop.verdict: expected global, local, transient"),
    ("[stop]", "[stopping]", "line 17: stopping: unknown key"),
    (
        'family = "unit-sphere"\nn = 3\nT = 4\nd = 5',
        'family = "file"\npath = "no.npz"',
        "line 8: problem[0].path: data:",
    ),
]


@pytest.mark.parametrize(("old", "new", "message"), CASES)
def test_each_mistake_is_named_with_its_line(tmp_path, old, new, message):
    assert old in TOML
    (tmp_path / "s.toml").write_text(TOML.replace(old, new, 1))
    with pytest.raises(ValueError) as error:
        studies.load(tmp_path / "s.toml")
    assert message in str(error.value)


LINES = TOML.strip().splitlines()
VALUES = st.one_of(
    st.sampled_from(
        ["", "0", "-1", "1e400", "nan", "'x'", "[]", "[[1]]", "{}", "{a = 1}", "1979-05-27", "true", "[1, 'x']"]
    ),
    st.integers(-(10**30), 10**30).map(str),
    st.text(max_size=8),
)


@st.composite
def malformed(draw):
    """The small study with one to three lines dropped, doubled, cut or given another key or value."""
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 3))):
        k = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["drop", "double", "value", "value", "key", "cut", "table"])):
            case "drop":
                del lines[k]
            case "double":
                lines.insert(k, lines[k])
            case "value" if "=" in lines[k]:
                lines[k] = lines[k].partition("=")[0] + "= " + draw(VALUES)
            case "key" if "=" in lines[k]:
                lines[k] = draw(st.text('abcxyz_-."', max_size=6)) + " =" + lines[k].partition("=")[2]
            case "cut":
                lines[k] = lines[k][: draw(st.integers(0, len(lines[k])))]
            case "table" if "[" in lines[k]:
                lines[k] = draw(st.sampled_from(["[problem]", "[[stop]]", "[[init.x]]", "[[rule]", "[]", "[seed]"]))
        if not lines:
            break
    return "\n".join(lines)


@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
@hypothesis.given(malformed())
def test_sixty_malformed_files(tmp_path_factory, text):
    """Whatever is wrong, a ValueError that names a key or a line; what is still a study is one."""
    path = tmp_path_factory.mktemp("files") / "s.toml"
    path.write_text(text, encoding="utf-8")
    try:
        study = studies.load(path)
    except ValueError as error:
        message = str(error)
        assert type(error) is ValueError and message and "pydantic" not in message and "Traceback" not in message
        assert re.search(r"line \d+|^[\w.\[\]-]+: |is not TOML", message), message
    else:
        assert study.hash and tomllib.loads(text)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ValueError, match="expected a readable TOML file at .*; No such file"):
        studies.load(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="it is not UTF-8 text"):
        studies.load(tmp_path / "binary.toml")
    with pytest.raises(ValueError, match="Is a directory"):
        studies.load(tmp_path)


def test_the_command_line_says_it_without_a_traceback(tmp_path):
    (tmp_path / "s.toml").write_text(TOML.replace("steps = 60", "steps = 0"))
    done = subprocess.run(
        [sys.executable, "-m", "jaxsim", "study", "run", "s.toml"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr == "error line 3: steps: expected at least 1; got 0\n"
    assert [path.name for path in tmp_path.iterdir()] == ["s.toml"]


def test_lines_are_found_in_inline_tables_and_behind_comments():
    text = "# a = 1\nstop = { lanes = 5 }\n[[rule]] # first\nname = 'gd'\n[[rule]]\n'eta' = 3\neta = 2\n"
    assert line_of(text, ("stop", "lanes")) == 2
    assert line_of(text, ("rule", 1, "eta")) in (6, 7)
    assert line_of(text, ("rule", 0, "eta")) == 3
    assert line_of(text, ("rule", 5, "eta")) is None and line_of(text, ("a",)) is None


def test_python_takes_arrays_and_tuples():
    import numpy as np

    assert small(init=[{"law": "sphere", "radius": np.array([0.1, 8.0])}]) == small()
    assert small(init=[{"law": "sphere", "radius": (0.1, 8.0)}]) == small()
    with pytest.raises(ValueError, match="^stop.lanes: expected a multiple of shard = 20"):
        small(stop={"lanes": 50})
    study = small(problem=[{"family": "digits", "classes": [[3, 8], [1, 7]], "images": 4}])
    assert [choice.label for choice in study.problems] == ["digits classes=3,8", "digits classes=1,7"]
