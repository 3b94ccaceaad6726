"""The structure of the house: imports point one way, and importing the package stays light."""

import ast
import pathlib
import re
import subprocess
import sys

import jaxsim

ROOT = pathlib.Path(jaxsim.__file__).parent
# Lower layers know nothing of higher ones. margin sits beside the model and must not see it.
LAYERS = [
    {"_tree", "_check", "_basis", "_fold", "_machine", "_exact", "_files", "_text", "_registry", "_bars"},
    {"problem", "_numbers"},
    {"_archive"},
    {"normed"},
    {"data", "margin"},
    {"coordinates"},
    {"model"},
    {"rules", "init"},
    {"driver"},
    {"native", "analysis"},
    {"train"},
    {"_plugins"},
    {"results"},
    {"simulation"},
    {"head"},
    {"basins"},
    {"plot"},
    {"storage"},
    {"study", "reproduce"},
    {"report"},
    {"cli"},
    {"_names"},
    {"__init__", "__main__"},
]
LEVEL = {name: k for k, layer in enumerate(LAYERS) for name in layer}


def module_imports():
    for path in ROOT.rglob("*.py"):
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module == "jaxsim":
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxsim."):
                names = [node.module.split(".")[1]]
            elif isinstance(node, ast.Import):
                names = [a.name.split(".")[1] for a in node.names if a.name.startswith("jaxsim.")]
            for name in names:
                yield path, room, name


def test_every_room_has_a_level():
    rooms = {p.name.removesuffix(".py") for p in ROOT.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert rooms == set(LEVEL)


def test_imports_point_one_way():
    wrong = [
        (str(path.relative_to(ROOT)), name)
        for path, room, name in module_imports()
        if name != room and LEVEL[name] >= LEVEL[room]
    ]
    assert not wrong


def modules():
    """Every module by its dotted name, with what it imports of the package, wherever in the file it does."""
    paths = {}
    for path in ROOT.rglob("*.py"):
        parts = ("jaxsim", *path.relative_to(ROOT).with_suffix("").parts)
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found = {}
    for name, path in paths.items():
        package, wanted = (name if path.name == "__init__.py" else name.rpartition(".")[0]).split("."), set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                above = package[: len(package) - node.level + 1] if node.level else []
                source = ".".join([*above, *([node.module] if node.module else [])])
                wanted |= {f"{source}.{a.name}" if f"{source}.{a.name}" in paths else source for a in node.names}
            elif isinstance(node, ast.Import):
                wanted |= {a.name for a in node.names}
        found[name] = (wanted & set(paths)) - {name}
    return found


def test_no_module_leads_back_to_itself():
    left = modules()
    while leaves := [name for name, wanted in left.items() if not wanted & set(left)]:
        for name in leaves:
            del left[name]
    # What remains can only be the circles and what leads to them.
    assert not left, sorted(left)


def test_margin_depends_on_data_alone():
    assert {name for _, room, name in module_imports() if room in ("margin", "normed")} <= {
        "problem", "_check", "_basis", "_machine", "normed",
    }  # fmt: skip


def test_rules_do_not_know_attention():
    assert not any(
        word in path.read_text(encoding="utf-8")
        for path in (ROOT / "rules").glob("*.py")
        for word in ("model.fixed_decoder", "model.softmax", "coordinates.")
    )


def test_driver_knows_no_model_and_no_rule_by_name():
    for path in (ROOT / "driver").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "Attention" not in text and "NGD" not in text and "Polyak" not in text


def test_modules_stay_small():
    long = {p.name: n for p in ROOT.rglob("*.py") if (n := len(p.read_text(encoding="utf-8").splitlines())) > 300}
    assert not long


def test_importing_the_package_is_light():
    heavy = (
        "cvxpy",
        "sklearn",
        "matplotlib",
        "pandas",
        "typer",
        "pydantic",
        "pyarrow",
        "xarray",
        "dask",
        "bokeh",
        "jinja2",
    )
    code = f"import sys; from jaxsim import *; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_page_of_contributors_lists_rooms_in_the_order_of_their_layers():
    text = (ROOT.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text[text.index("\n| | room |") :].split("\n\n")[0].strip()
    rows = [set(re.findall(r"`jaxsim/(\w+)", line)) for line in table.splitlines()[2:]]
    levels = [sorted(LEVEL[room] for room in row) for row in rows]
    assert all(row and row[-1] <= after[0] for row, after in zip(levels, levels[1:], strict=False))
    hidden = {
        "_names",
        "_tree",
        "_check",
        "_numbers",
        "_basis",
        "_fold",
        "_machine",
        "_exact",
        "_files",
        "_text",
        "_archive",
        "_registry",
        "_plugins",
        "_bars",
        "__init__",
        "__main__",
    }
    assert {room for row in rows for room in row} == set(LEVEL) - hidden
