"""Small studies for the tests."""

import jaxsim.study

SPHERE = {"family": "unit-sphere", "n": 3, "T": 4, "d": 5}
LAW = {"law": "sphere", "radius": [0.1, 8.0]}
NGD = {"name": "ngd", "eta": [0.1, 0.2]}
TOML = """
seed = 3
steps = 60
shard = 20
dtype = "float32"
[[problem]]
family = "unit-sphere"
n = 3
T = 4
d = 5
[[init]]
law = "sphere"
radius = [0.1, 8]
[[rule]]
name = "ngd"
eta = [0.1, 0.2]
[stop]
lanes = 60
"""


def small(**changes):
    """Four cells; one program to compile."""
    content = dict(seed=3, steps=60, shard=20, dtype="float32", problem=[SPHERE], init=[LAW], rule=[NGD])
    return jaxsim.study.build(**content | {"stop": {"lanes": 60}} | changes)


def contents(folder):
    """Every shard's bytes by name, and what the manifest says of it."""
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.glob("shards/*/*")}
    records = jaxsim.open_study(folder).records.values()
    return files, [(r.cell, r.shard, r.state, r.file, r.bytes, r.sha256, r.counts) for r in records]
