"""The report of a run and of a study: its numbers are the saved ones, and a browser shows it."""

import dataclasses
import json
import re
import sys
import time
import tomllib

import browser
import jax
import numpy as np
import pandas as pd
import pytest
from study_files import small

import jaxsim
from jaxsim.analysis import VERDICTS, wilson
from jaxsim.report.content import DIGITS, percent
from jaxsim.report.studies import study_file
from jaxsim.rules import label
from jaxsim.study import manifest
from jaxsim.study.rows import file_of

SETTINGS = {"lanes": 60, "steps": 200, "init": "Gaussian(scale=1.0)", "command": "jaxsim run --lanes 60", "seed": 0}
RULES = [jaxsim.rules.GD(1.0), jaxsim.rules.NGD(0.5), jaxsim.rules.NGD(0.1)]
ALL_TEXT = """
const all = [];
const walk = (node) => {
  if (node.shadowRoot) walk(node.shadowRoot);
  for (const child of node.childNodes) {
    if (child.nodeType === 3) all.push(child.data);
    else if (!["STYLE", "SCRIPT"].includes(child.nodeName)) walk(child);
  }
};
walk(document.body);
return all.join(" ");
"""
NASTY = "<script>alert('x')</script> & </script>"


def runs_of(problem, lanes=60, steps=200, rules=RULES, scale=1.0):
    law, key = jaxsim.init.Gaussian(scale), jax.random.key(1)
    return [jaxsim.simulate(problem, rule, law, key=key, lanes=lanes, steps=steps) for rule in rules]


@pytest.fixture(scope="module")
def run_folder(problem, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    runs = runs_of(problem)
    jaxsim.storage.write(folder, {"first": runs, NASTY: runs[:0] + runs}, SETTINGS)
    return folder


@pytest.fixture(scope="module")
def study_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    jaxsim.study.run(small(), folder)
    return folder


def as_if_run(folder, problems, radii, rules, counts):
    """A study whose cells have these counts of verdicts, (cells, 6): the manifest is what a report reads."""
    study = jaxsim.study.build(
        steps=10, shard=100, stop={"lanes": 100}, init=[{"law": "sphere", "radius": radii}], rule=rules,
        problem=[{"family": "unit-sphere", "n": 2, "T": 2, "d": 3, "seeds": list(range(problems))}],
    )  # fmt: skip
    folder.mkdir(exist_ok=True)
    book = manifest.Manifest(manifest.manifest_of(folder))
    book.put(study=study.model_dump(), hash=study.hash)
    session = book.begin({"python": "3"})
    with book._all_or_nothing():
        for cell, numbers in enumerate(counts.tolist()):
            name = file_of(cell, 0)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
            book.record(manifest.Record(cell, 0, "done", name, 0, "", tuple(numbers), session=session))
    book.close(session)
    return folder


@pytest.fixture(scope="module")
def large_folder(tmp_path_factory):
    """Ten thousand cells."""
    draws = np.random.default_rng(0)
    counts = draws.multinomial(100, draws.dirichlet(np.ones(6), 10_000))
    rules = [{"name": "gd", "eta": [1.0, 10.0]}, {"name": "ngd", "eta": 0.1}, {"name": "polyak"}]
    return as_if_run(tmp_path_factory.mktemp("large"), 50, np.geomspace(0.1, 100, 50), rules, counts)


def page_of(folder, to=None):
    path = jaxsim.report.write(folder, to)
    text = path.read_text(encoding="utf-8")
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text).group(1))
    return text, data


def rounded(values):
    return [float(f"{v:.{DIGITS}g}") for v in np.ravel(values)]


def test_numbers_of_a_run_are_those_of_its_tables(run_folder):
    text, data = page_of(run_folder)
    cells, lanes = data["cells"], pd.read_parquet(run_folder / "lanes.parquet")
    found = np.reshape(cells["counts"], (2, len(RULES), len(VERDICTS)))
    low, high = (np.reshape(cells[name], found.shape) for name in ("low", "high"))
    for p, problem in enumerate(("first", NASTY)):
        for r, rule in enumerate(map(repr, RULES)):
            part = lanes[(lanes.problem == problem) & (lanes.rule == rule)]
            for v, verdict in enumerate(VERDICTS):
                expected = wilson((part.verdict == verdict).sum(), len(part))
                assert found[p, r, v] == expected.count
                assert [low[p, r, v], high[p, r, v]] == rounded([expected.low, expected.high])
    assert found[..., 0].sum() and found[..., 1:].sum()  # more than one verdict is there
    curves = pd.read_parquet(run_folder / "curves.parquet")
    for drawn in data["curves"]:
        if drawn["problem"] == 0 and drawn["quantity"] == "direction error":
            rule = repr(RULES[drawn["rule"]])
            part = curves[(curves.problem == "first") & (curves.rule == rule) & (curves.step > 0)]
            part = part[part.quantity == "direction_error"]
            assert drawn["steps"] == part.step.tolist() and drawn["lanes"] == part.lanes.tolist()
            assert [v for v in drawn["q95"]] == rounded(part.q95)
    share = wilson((lanes[(lanes.problem == "first") & (lanes.rule == repr(RULES[1]))].verdict == "global").sum(), 60)
    assert f"{percent(share.value)} [{percent(share.low)[:-1]}, {percent(share.high)[:-1]}] under NGD 0.5" in text
    assert len(text) < 5e6 and "jaxsim run --lanes 60" in text


def test_a_name_from_a_file_is_text_and_nothing_else(run_folder):
    text, _ = page_of(run_folder)
    assert "alert(" in text and "<script>alert" not in text


def test_numbers_of_a_study_are_those_of_its_manifest(study_folder):
    text, data = page_of(study_folder)
    found = jaxsim.open_study(study_folder).fractions()
    cells = data["cells"]
    assert cells["counts"] == found["count"].values.ravel().tolist()
    assert cells["low"] == rounded(found["low"]) and cells["high"] == rounded(found["high"])
    assert cells["numbers"]["radius"] == [0.1, 8.0]
    assert "4 of 4 cells are done, with 240 runs" in text


def test_a_plane_is_drawn_and_its_shares_are_those_of_the_manifest(tmp_path):
    laws = [{"law": "random-plane", "resolution": [10, 6], "seeds": [0, 1]}, {"law": "gaussian"}]
    study = small(init=laws, rule=[{"name": "ngd", "eta": 0.1}], steps=200)
    jaxsim.study.run(study, tmp_path / "study")
    text, data = page_of(tmp_path / "study")
    assert text.count('<img src="data:image/png;base64,') == 2 and "no random draws" in text
    share = jaxsim.open_study(tmp_path / "study").fractions()["fraction"].sel(verdict="global").values[0, 1, 0]
    assert "cell 1: unit-sphere | random-plane seed=1 | ngd" in text and f"global {100 * share:.1f}%" in text
    assert data["cells"]["low"][:12] == [None] * 12 and None not in data["cells"]["low"][12:]


def test_the_study_file_of_a_report_gives_the_same_study(large_folder):
    for study in (small(name='a "quoted" \\ name \x7f 😀'), jaxsim.open_study(large_folder).study):
        again = jaxsim.study.build(**tomllib.loads(study_file(study)))
        assert again == study and again.hash == study.hash


def begun(folder, study):
    """The folder of a study that has only just begun."""
    folder.mkdir()
    book = manifest.Manifest(manifest.manifest_of(folder))
    book.put(study=study.model_dump(), hash=study.hash)
    book.close()
    return folder


def failed(run):
    """The same run with arithmetic that failed in every lane."""
    names = ("norm", "final_logits", "direction_error", "log10_grad_norm", "log10_gap", "log10_attention_gap")
    return dataclasses.replace(run, **{name: np.full_like(getattr(run, name), np.nan) for name in names})


def test_an_unfinished_study_says_so(tmp_path):
    text, data = page_of(begun(tmp_path / "study", small()))
    assert "Nothing has run yet" in text and "0 of 4 cells are done" in text
    assert set(data["cells"]["low"]) == {None}


def test_odd_runs_are_described_in_words(problem, tmp_path):
    sound = runs_of(problem, lanes=1, rules=RULES[:1])[0]
    bad = failed(sound)
    for name, runs, words in (
        ("one", [sound], f"the one start ended {sound.verdict[0]} under GD 1"),
        ("bad", [bad], "arithmetic failed in 1 of 1 runs (nonfinite)"),
        (
            "slow",
            runs_of(problem, lanes=3, steps=1, rules=[jaxsim.rules.GD(1e-6)], scale=1e-3),
            "no run has settled within 1 steps",
        ),
    ):
        (tmp_path / name).mkdir()
        jaxsim.storage.write(tmp_path / name, {"p": runs}, SETTINGS | {"lanes": runs[0].lanes})
        assert words in page_of(tmp_path / name)[0]


@pytest.mark.parametrize("spoil", ["nothing", "summary.json", "curves.parquet", "manifest"])
def test_other_folders_are_refused(spoil, run_folder, tmp_path, monkeypatch, capsys):
    from jaxsim import cli

    if spoil == "manifest":
        (tmp_path / "manifest-0000.sqlite").write_bytes(b"x" * 5000)
    elif spoil != "nothing":
        for path in run_folder.iterdir():
            (tmp_path / path.name).write_bytes(b"{" if path.name == spoil else path.read_bytes())
        (tmp_path / "report.html").unlink(missing_ok=True)
    monkeypatch.setattr(sys, "argv", ["jaxsim", "report", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2 and "error" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with browser.chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


def opened(driver, path, pixels=1200):
    """Open a page and wait for its figures; how long that took, in seconds."""
    browser.width(driver, pixels)
    began = time.perf_counter()
    driver.get(path.as_uri())
    while driver.execute_script("return document.documentElement.dataset.ready") != "yes":
        assert time.perf_counter() - began < 60
        time.sleep(0.01)
    return time.perf_counter() - began


def choose(driver, name, text):
    from selenium.webdriver.support.select import Select

    Select(driver.find_element("id", name)).select_by_visible_text(text)


def quiet(driver):
    """No error and no warning in the console, and nothing fetched."""
    assert [entry for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    assert driver.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert driver.find_element("id", "trouble").get_attribute("hidden") == "true"


def drawn(driver, name):
    script = "for (const d of Bokeh.documents) { const m = d.get_model_by_name(arguments[0]); if (m) return m.data; }"
    return driver.execute_script(script, name)


def rows(driver):
    return [[cell.text for cell in row.find_elements("tag name", "td")]
            for row in driver.find_elements("css selector", "#table tbody tr")]  # fmt: skip


def test_a_browser_shows_a_run(run_folder, driver, tmp_path):
    opened(driver, jaxsim.report.write(run_folder))
    assert NASTY in driver.find_element("tag name", "h1").text  # as text
    assert len(drawn(driver, "bars-labels")["text"]) == 2 * len(RULES)
    choose(driver, "bars-problem", "first")
    choose(driver, "bars-rule", "NGD 0.5")
    lanes = pd.read_parquet(run_folder / "lanes.parquet")
    part = lanes[(lanes.problem == "first") & (lanes.rule == repr(RULES[1]))]
    counts = part.verdict.value_counts()
    assert drawn(driver, "bars-parts")["count"] == [f"{counts[v]} of 60" for v in VERDICTS if v in counts]
    assert len(drawn(driver, "lines-lines")["xs"]) == len(RULES)
    choose(driver, "lines-quantity", "‖W‖")
    choose(driver, "lines-rule", label(RULES[0]))
    curves = pd.read_parquet(run_folder / "curves.parquet")
    norm = curves[
        (curves.problem == "first") & (curves.rule == repr(RULES[0])) & (curves.quantity == "norm") & (curves.step > 0)
    ]
    np.testing.assert_allclose(drawn(driver, "lines-points")["y"], np.log10(norm.q50), atol=1e-4)
    assert drawn(driver, "lines-lines")["colour"] == [jaxsim.plot.RULE_COLOURS["gd"]]
    quiet(driver)


@pytest.mark.parametrize("pixels", [1200, 400])
def test_a_page_fits_its_window_and_is_reached_by_keyboard(run_folder, driver, tmp_path, pixels):
    from selenium.webdriver.common.keys import Keys

    opened(driver, jaxsim.report.write(run_folder), pixels)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= pixels
    browser.picture(driver, tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 20_000
    met = []
    for _ in range(24):  # the contents come first
        driver.switch_to.active_element.send_keys(Keys.TAB)
        met.append(driver.switch_to.active_element.get_attribute("id"))
    for name in ("bars-problem", "bars-rule", "lines-problem", "lines-quantity", "table-filter"):
        assert name in met
    unnamed = "return [...document.querySelectorAll('select,input')].filter((e) => !e.labels.length).map((e) => e.id)"
    assert driver.execute_script(unnamed) == []
    assert all(e.get_attribute("aria-label") for e in driver.find_elements("css selector", "[role=img]"))
    quiet(driver)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_wrong(run_folder, study_folder, driver, tmp_path, scheme):
    """Contrast of 4.5, names, landmarks, order of headings: axe-core's rules for WCAG 2 A and AA, and good practice."""
    axe = pytest.importorskip("axe_core_python.selenium").Axe()
    preferred = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", preferred)
    for k, folder in enumerate((run_folder, study_folder)):
        opened(driver, jaxsim.report.write(folder, tmp_path / f"{k}.html"))
        found = axe.run(driver)["violations"]
        assert not found, [(v["id"], v["help"], [n["html"][:200] for n in v["nodes"][:3]]) for v in found]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_pointing_at_a_bar_tells_its_numbers(run_folder, driver):
    from selenium.webdriver import ActionChains

    opened(driver, jaxsim.report.write(run_folder))
    choose(driver, "bars-problem", NASTY)
    bars = driver.find_element("id", "bars")
    driver.execute_script("arguments[0].scrollIntoView()", bars)
    ActionChains(driver).move_to_element_with_offset(
        bars, -bars.size["width"] // 2 + 60, -bars.size["height"] // 2 + 47
    ).perform()
    time.sleep(0.5)
    text = driver.execute_script(ALL_TEXT)
    assert " of 60" in text and "95% interval [" in text
    assert f"{NASTY}, GD 1" in text  # as text: nothing of it became an element


def test_a_browser_shows_what_is_empty_or_failed_in_words(problem, driver, tmp_path):
    opened(driver, jaxsim.report.write(begun(tmp_path / "empty", small())))
    assert driver.find_element("id", "bars-words").text == "Nothing has run here yet."
    assert driver.find_element("id", "lines-words").text.startswith("There is nothing to draw here")
    assert rows(driver)[0][-4:] == ["0", "–", "–", "–"]
    quiet(driver)
    opened(driver, jaxsim.report.write(begun(tmp_path / "zero", small(init=[{"law": "zero"}]))))
    assert not driver.find_elements("id", "lines")  # there is no number of the start to draw against
    quiet(driver)
    (tmp_path / "bad").mkdir()
    runs = [failed(runs_of(problem, lanes=1, rules=RULES[1:2])[0])]
    jaxsim.storage.write(tmp_path / "bad", {"p": runs}, SETTINGS | {"lanes": 1})
    opened(driver, jaxsim.report.write(tmp_path / "bad"))
    assert drawn(driver, "bars-parts")["verdict"] == ["nonfinite"]
    assert driver.find_element("id", "lines-words").text.startswith("There is nothing to draw here")
    quiet(driver)


def test_charts_open_where_there_is_most_to_see(driver, tmp_path):
    verdicts = {"global": [100, 0, 0, 0, 0, 0], "local": [0, 100, 0, 0, 0, 0], "half": [50, 50, 0, 0, 0, 0]}
    seen = ["global", "global", "global", "global", "local", "half"]  # of two problems, three starts each
    rules = [{"name": "ngd", "eta": 0.1}]
    folder = as_if_run(tmp_path / "mixed", 2, [0.1, 1.0, 10.0], rules, np.array([verdicts[name] for name in seen]))
    opened(driver, jaxsim.report.write(folder))
    value = lambda name: driver.find_element("id", name).get_property("value")  # noqa: E731
    assert (value("bars-init"), value("lines-problem"), value("lines-quantity")) == ("1", "1", "0")
    assert drawn(driver, "lines-points")["y"] == [1.0, 0.0, 0.5]
    quiet(driver)
    pale = [[90, 0, 0, 10, 0, 0], [90, 0, 10, 0, 0, 0]]  # what is asked about is the same everywhere
    opened(driver, jaxsim.report.write(as_if_run(tmp_path / "pale", 1, [0.1, 1.0], rules, np.array(pale))))
    assert value("lines-quantity") == "2"
    quiet(driver)


def test_a_browser_opens_ten_thousand_cells_in_under_three_seconds(large_folder, driver):
    path = jaxsim.report.write(large_folder)
    assert path.stat().st_size < 5e6
    assert min(opened(driver, path) for _ in range(3)) < 3  # of three: other work may hold the machine up
    assert len(rows(driver)) == 25
    assert driver.find_element("id", "table-words").text == "1 to 25 of 10000 cells"
    driver.find_element("id", "table-on").click()
    assert driver.find_element("id", "table-words").text == "26 to 50 of 10000 cells"
    choose(driver, "table-verdict", "local")
    choose(driver, "table-order", "largest fraction first")
    found = jaxsim.open_study(large_folder).fractions()
    flat = found["count"].values.reshape(-1, 6)
    best = int(np.argmax(flat[:, 1]))
    low, high = (100 * found[name].values.reshape(-1, 6)[best, 1] for name in ("low", "high"))
    assert rows(driver)[0][0] == str(best)
    assert rows(driver)[0][-3:] == [str(flat[best, 1]), f"{flat[best, 1]:.1f}%", f"[{low:.1f}, {high:.1f}]%"]
    driver.find_element("id", "table-filter").send_keys("seed=7 polyak")
    while driver.find_element("id", "table-words").text.endswith("10000 cells"):
        time.sleep(0.05)
    assert driver.find_element("id", "table-words").text == "1 to 25 of 50 cells"
    choose(driver, "lines-problem", "unit-sphere seed=3")
    choose(driver, "lines-rule", "polyak")
    points = drawn(driver, "lines-points")
    np.testing.assert_array_equal(points["y"], found["fraction"].values[3, :, 3, 0])
    choose(driver, "bars-init", str(found["init"].values[20]))
    choose(driver, "bars-rule", "ngd")
    choose(driver, "bars-problem", "unit-sphere seed=49")
    counts = found["count"].values[49, 20, 2]
    assert drawn(driver, "bars-parts")["count"] == [f"{c} of 100" for c in counts if c]
    quiet(driver)
