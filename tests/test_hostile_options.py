"""Options of every command that cannot be: one line that names the option, exit code 2, nothing written."""

import shlex

import hostile
import pytest

SMALL = "--data good.npz --lanes 4 --steps 9"
LONG = "9" * 400
SPHERE = "--data unit-sphere --lanes 4 --steps 9"
CASES = {
    f"run {SMALL}": [
        ("--lanes many", "--lanes: "),
        ("--lanes 1.5", "--lanes: "),
        ("--lanes", "--lanes"),
        ("--lanez 4", "--lanez"),
        ("surplus", "surplus"),
        ("--lanes -3", "lanes: expected at least 1; got -3"),
        ("--lanes 4294967297", "lanes: expected first + lanes at most 2^32; got 4294967297"),
        ("--lanes 4294967290", "lanes: "),
        (f"--lanes {LONG}", "lanes: expected"),
        ("--steps -1", "steps: expected at least 1; got -1"),
        ("--steps 2147483648", "steps: expected at most 2147483647; got 2147483648"),
        ("--steps 1000000000000000000000000000000", "steps: expected at most 2147483647"),
        ("--steps x", "--steps: "),
        ("--seed -1", "seed: expected at least 0; got -1"),
        ("--seed 4294967296", "seed: expected at most 4294967295; got 4294967296"),
        ("--seed 9223372036854775808", "seed: expected at most 4294967295"),
        (f"--seed {LONG}", "seed: expected at most 4294967295"),
        ("--seed 0.5", "--seed: "),
        ("--cores 0", "cores: expected at least 1; got 0"),
        ("--cores -2", "cores: expected at least 1; got -2"),
        ("--cores 100000", "cores: expected at most 1024; got 100000"),
        (f"--cores {LONG}", "cores: expected at most 1024"),
        ("--memory -5", "memory: expected at least 1; got -5"),
        ("--max-step inf", "max_step: expected a finite number"),
        ("--max-step nan", "max_step: expected a finite number"),
        ("--max-step x", "--max-step: "),
        ("--rule ngd=1e999", "eta: expected a finite number; got inf"),
        ("--rule ngd=-0.1", "eta: expected a number above 0"),
        ("--rule ngd=1j", "rule: expected a number after ngd="),
        ("--rule =1", "rule: expected NAME=STEP"),
        ("--rule ''", "rule: expected NAME=STEP"),
        ("--rule ngd==1", "rule: expected a number after ngd="),
        ("--rule 'ngd=0.1 polyak=1'", "rule: expected a number after ngd="),
        ("--rule __class__=1", "rule: expected NAME=STEP"),
        ("--loss ''", "loss: expected one of"),
        ("--dtype ''", "dtype: expected float32 or float64"),
        ("--dtype complex128", "dtype: expected float32 or float64"),
        ("--train ''", "train: expected weights, joint, key-query"),
        ("--train key-query --width -1", "width: expected at least 1; got -1"),
        ("--train key-query --width 1000000000000", "width: "),
        ("--train joint --batch 0", "batch: expected at least 1; got 0"),
        ("--batch 99999999999999999999", "batch: expected at most n = 3 sequences"),
        ("--scale -1", "scale: expected a number above 0; got -1"),
        ("--scale nan", "scale: expected a finite number"),
        ("--scale inf --init sphere", "radius: expected a finite number"),
        ("--init ''", "init: expected gaussian, sphere, zero or a FILE.npy"),
        ("--init folder.npy", "init: expected a readable .npy file"),
        ("--init /dev/null/x.npy", "init: expected a readable .npy file"),
        ("--init start.npy", "lanes: --init start.npy is one start"),
        ("--init start.npy --lanes 1 --scale 2", "--scale: has no meaning for --init start.npy"),
        ("--n 3", "--n: has no meaning for --data good.npz"),
        ("--signal 1", "--signal: has no meaning for --data good.npz"),
        ("--out full", "out: expected a new or empty folder"),
        ("--out file", "out: cannot make the folder 'file'"),
        ("--out file/inside", "out: cannot make the folder 'file/inside'"),
        (f"--out {'a' * 300}", "out: cannot make the folder"),
        ("--out ''", "out: expected a new or empty folder"),
        ("--cache file", "cache: cannot make the folder 'file'"),
    ],
    f"run {SPHERE}": [
        ("--n 0", "n: expected at least 1; got 0"),
        ("-T 1", "T: expected at least 2; got 1"),
        ("-d 0", "d: expected at least 1; got 0"),
        ("-d 1000000000", "d: "),
        ("-d 1000000000000000000000", "d: "),
        (f"-d {LONG}", "d: "),
        ("--n 1000000000", "n: "),
        ("-T 1000000000000", "T: "),
        ("--n 100000000 -T 3 -d 3", "n: "),
        ("--data orthonormal -d 15", "d: expected at least n·T = 16"),
        ("--data orthonormal -d 1000000000", "d: "),
        ("--data signal-noise -d 1", "d: expected at least 2; got 1"),
        ("--data signal-noise -d 1000000000", "d: "),
        ("--data signal-noise --signal 0", "signal: expected a number above 0"),
        ("--data signal-noise --signal nan", "signal: expected a finite number"),
        ("--data signal-noise --signal 1e308", "tokens: "),
        ("--data signal-noise --noise -1", "noise: expected a number above 0"),
        ("--data signal-noise --noise inf", "noise: expected a finite number"),
        ("--data digits --n 2000000", "images: the data set has"),
        ("--data digits --n -2", "images: expected at least 2; got -2"),
        ("--data digits --classes 3,3", "classes: expected two different digits"),
        ("--data digits --classes 3,10", "classes: expected two different digits"),
        ("--data digits --classes 1,2,3", "classes: expected two digits"),
        ("--data digits --classes ''", "classes: expected two digits"),
        ("--data digits --positions ''", "positions: expected none, one-hot or both"),
        ("--data ''", "data: expected digits"),
        ("--data folder.npz", "data: expected a readable .npz file"),
        ("--data /dev/null/x.npz", "data: expected a readable .npz file"),
        (f"--data {'a' * 300}.npz", "data: expected a readable .npz file"),
        ("--data .npz", "data: expected a readable .npz file"),
        ("--train key-query --width 1000000000", "width: "),
    ],
    f"head {SMALL} --rule gd=1": [
        ("--lanes 0", "lanes: expected at least 1; got 0"),
        ("--lanes 1000000000", "lanes: "),
        ("--lanes x", "--lanes: "),
        ("--steps 0", "steps: expected at least 1; got 0"),
        ("--steps 99999999999", "steps: expected at most 2147483647"),
        ("--seed -1", "seed: expected at least 0; got -1"),
        ("--seed 99999999999999999999", "seed: expected at most 4294967295"),
        ("--scale 0", "scale: expected a number above 0"),
        ("--scale inf", "scale: expected a finite number"),
        ("--batch 0", "batch: expected a whole number from 1 to n = 3, or full; got '0'"),
        ("--batch 4", "batch: expected at most n = 3 sequences; got 4"),
        ("--batch x", "batch: expected a whole number from 1 to n = 3"),
        ("--limits some", "limits: expected"),
        ("--dtype x", "dtype: expected float32 or float64"),
        ("--rule gd", "rule: expected NAME=STEP"),
        ("--rule gd=1", "rule: 'gd=1' is given twice"),
        ("--rule spectral=1 --rule polyak=0", "rule: 'polyak=0'"),
        ("--max-step 0 --rule polyak=1", "max_step: expected a number above 0"),
        ("--classes 3,8", "--classes: has no meaning for --data good.npz"),
        ("--images 10", "--images: has no meaning for --data good.npz"),
        ("--data digits --classes x", "classes: expected two digits"),
        ("--data digits --classes 3,3", "classes: expected two different digits"),
        ("--data digits --images 3", "images: expected an even number"),
        ("--data digits --images 100000", "images: the data set has"),
        ("--data letters", "data: expected digits or a FILE.npz"),
        ("--data no-members.npz", "lacks tokens"),
        ("--data shape20.npz", "480 bytes"),
        ("--out full", "out: expected a new or empty folder"),
        ("more", "more"),
    ],
    "geometry --data unit-sphere --lanes 2 --steps 9": [
        ("--lanes 0", "lanes: expected at least 1; got 0"),
        ("--lanes 4294967290", "lanes: "),
        ("--steps 0", "steps: expected at least 1; got 0"),
        ("--steps 99999999999", "steps: expected at most 2147483647"),
        ("--seed -7", "seed: expected at least 0; got -7"),
        ("--seed 18446744073709551616", "seed: expected at most 4294967295"),
        ("-d 1000000000", "d: "),
        ("--n 10000000000", "n: "),
        ("-T 0", "T: expected at least 2; got 0"),
        ("--data x", "data: expected digits"),
        ("--data bomb.npz", "data: expected a readable .npz file"),
        ("--data decoder-1e308.npz", "decoder: "),
        ("--lanes two", "--lanes: "),
        ("--out x", "--out"),
    ],
    "basin --data good.npz --resolution 2 --steps 9": [
        ("--resolution 1", "resolution: expected at least 2; got 1"),
        ("--resolution 100000", "resolution: expected at most 1000 × 1000"),
        ("--resolution x", "--resolution: "),
        ("--refine -1", "refine: expected at least 0; got -1"),
        ("--refine 1", "refine: expected a first spacing"),
        (f"--refine {LONG}", "refine: expected a first spacing"),
        ("--window 0,1", "window: expected four numbers"),
        ("--window 0,1,2,x", "window: expected a number; got 'x'"),
        ("--window 0,1,nan,1", "window: expected a finite number"),
        ("--window 1,0,0,1", "window: expected a first < a last"),
        ("--window=-1e308,1e308,0,1", "window: "),
        ("--zoom 1,2", "zoom: expected A,B,FACTOR"),
        ("--zoom 1,2,0", "zoom: expected a factor above 0; got 0"),
        ("--zoom 1,2,-3", "zoom: expected a factor above 0; got -3"),
        ("--zoom 1,2,inf", "zoom: expected a finite number"),
        ("--zoom 1,2,1e-308", "window: "),
        ("--zoom 1e300,2,1e10", "window: expected a first < a last"),
        ("--plane x", "plane: expected limits, random, or two files"),
        ("--plane start.npy", "plane: expected limits, random, or two files"),
        ("--plane start.npy,absent.npy", "plane: expected a readable .npy file of numbers at 'absent.npy'"),
        ("--plane start.npy,start.npy", "second: expected a direction that is not parallel"),
        ("--plane start.npy,start-other-size.npy", "plane: expected matrices (5, 5)"),
        ("--plane start.npy,start-complex.npy", "second: expected real numbers"),
        ("--plane start-shape20.npy,start.npy", "plane: expected a readable .npy file"),
        ("--plane start-deep.npy,start.npy", "plane: expected a readable .npy file"),
        ("--plane good.npz,start.npy", "plane: expected a readable .npy file"),
        ("--plane folder.npy,start.npy", "plane: expected a readable .npy file"),
        ("--memory 0 --plane random", "memory: expected at least 1; got 0"),
        ("--rule ngd", "rule: expected NAME=STEP"),
        ("--versus sgd=1", "rule: expected NAME=STEP"),
        ("--steps 0 --plane random", "steps: expected at least 1; got 0"),
        ("--steps 99999999999 --plane random", "steps: expected at most 2147483647"),
        ("--seed -1", "seed: expected at least 0; got -1"),
        ("--seed 4294967296 --plane random", "seed: expected at most 4294967295"),
        ("--dtype x", "dtype: expected float32 or float64"),
        ("--data lzma.npz", "data: expected a readable .npz file"),
        ("--data unit-sphere -d 1000000000", "d: "),
        ("--data digits --positions both", "positions: expected none or one-hot"),
        ("--out full --plane random", "out: expected a new or empty folder"),
    ],
    "reproduce": [
        ("nothing", "name: expected list, all or one of"),
        ("list --cores 0", "cores: expected at least 1; got 0"),
        ("list --cores 100000", "cores: expected at most 1024; got 100000"),
        ("losses --quick --out full", "out: expected a new or empty folder"),
        ("losses --quick --out file", "out: cannot make the folder 'file'"),
        ("--quick", "name: expected a value; got none"),
        ("losses extra", "extra"),
    ],
    "": [
        ("nothing", "nothing"),
        ("--nothing", "--nothing"),
        ("study nothing", "nothing"),
        ("study run", "study: expected a value; got none"),
        ("report", "folder: expected a value; got none"),
        ("replay full", "--lane: expected a value; got none"),
        ("replay full --lane x", "--lane: "),
        ("study map full --cell x", "--cell: "),
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("hostile")
    hostile.fill(place)
    return place


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(f"{command} {options}", words) for command, cases in CASES.items() for options, words in cases],
    ids=lambda value: value[:60],
)
def test_what_an_option_cannot_be_is_refused_in_one_line(arguments, words, place, capsys):
    hostile.refused(shlex.split(arguments), words, place, capsys)


@pytest.mark.parametrize("name", hostile.FILES)
def test_each_bad_problem_file_is_refused_in_one_line(name, place, capsys):
    words = hostile.FILES[name][1]
    hostile.refused(shlex.split(f"run {SMALL} --data {name}.npz"), words, place, capsys)
    if words.startswith("expected a readable"):
        _, _, said = hostile.called(shlex.split(f"run {SMALL} --data {name}.npz"), place, capsys)
        assert f"at '{name}.npz'" in said


@pytest.mark.parametrize("name", hostile.STARTS)
def test_each_bad_file_of_starts_is_refused_in_one_line(name, place, capsys):
    lanes = "" if name == "no-lanes" else "--lanes 1"
    command = f"run --data good.npz --steps 9 --init start-{name}.npy {lanes}"
    hostile.refused(shlex.split(command), hostile.STARTS[name][1], place, capsys)
