"""Hostile inputs for the tests: files that are wrong in every way, and a command line called in this process."""

import io
import struct
import sys
import zipfile

import numpy as np
import pytest

LITTLE = 8 * 2**30  # bytes of memory that the process pretends to have, so that no test depends on the machine


def good(**changes):
    """The arrays of a sound problem file, some of them changed; None leaves one out."""
    draws = np.random.default_rng(0)
    arrays = {
        "tokens": draws.standard_normal((3, 4, 5)),
        "queries": draws.standard_normal((3, 5)),
        "labels": np.array([1.0, -1.0, 1.0]),
        "decoder": draws.standard_normal(5),
    }
    return {name: value for name, value in (arrays | changes).items() if value is not None}


def npy(array):
    """The bytes of an array as a .npy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def header(text, data=b"\0" * 480):
    """A .npy file with the header that is written here."""
    head = text.encode() + b" " * (64 - (len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data


def shaped(shape, dtype="'<f8'"):
    """A .npy file that claims a shape; there are 480 bytes of data."""
    return header(f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}")


def packed(members, how=zipfile.ZIP_STORED):
    """A zip archive of named bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return bytearray(file.getvalue())


def archive(how=zipfile.ZIP_STORED, tokens=None, **changes):
    """A problem file; `tokens` are the bytes of that member in place of a sound one."""
    members = {f"{name}.npy": npy(value) for name, value in good(**changes).items()}
    return packed(members | ({} if tokens is None else {"tokens.npy": tokens}), how)


def patched(content, local, central, value, size=2):
    """An archive whose members' headers hold another number at these places."""
    for mark, place in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        at = content.find(mark)
        while at >= 0:
            content[at + place : at + place + size] = value.to_bytes(size, "little")
            at = content.find(mark, at + 4)
    return content


def spoilt(how):
    """An archive whose compressed bytes are damaged."""
    content = archive(how, np.zeros((3, 4, 5)).tobytes() * 20)
    at = content.find(b"tokens.npy") + len(b"tokens.npy")
    content[at : at + 30] = b"\xff" * 30
    return content


def _huge():
    """A member that says of itself to hold a terabyte, as compressed zeros may."""
    content = archive(tokens=shaped("(40000000000, 5, 5)"))
    return patched(content, 22, 24, 2**32 - 2, 4)


FILES = {  # problem files, all of which are refused, and what the message has to say
    "zlib": (spoilt(zipfile.ZIP_DEFLATED), "expected a readable .npz file"),
    "lzma": (spoilt(zipfile.ZIP_LZMA), "expected a readable .npz file"),
    "bzip": (spoilt(zipfile.ZIP_BZIP2), "expected a readable .npz file"),
    "encrypted": (patched(archive(), 6, 8, 1), "encrypted"),
    "method": (patched(archive(), 8, 10, 99), "compression"),
    "shape12": (archive(tokens=shaped("(1000000000000, 3, 4)")), "480 bytes"),
    "shape20": (archive(tokens=shaped("(100000000000000000000, 3, 4)")), "480 bytes"),
    "shape300": (archive(tokens=shaped(f"({10**300}, 3, 4)")), "480 bytes"),
    "bomb": (_huge(), "expected a readable .npz file"),
    "negative": (archive(tokens=shaped("(-3, 4, 5)")), "expected a readable .npz file"),
    "shape-text": (archive(tokens=shaped("('a', 4, 5)")), "expected a readable .npz file"),
    "shape-float": (archive(tokens=shaped("(3.0, 4, 5)")), "expected a readable .npz file"),
    "header-code": (archive(tokens=header("__import__('os').abort()")), "expected a readable .npz file"),
    "header-deep": (archive(tokens=header("(" * 5000)), "expected a readable .npz file"),
    "header-long": (archive(tokens=header("{'descr': '<f8', " + " " * 30000 + "}")), "expected a readable .npz file"),
    "header-empty": (archive(tokens=b"\x93NUMPY\x01\x00"), "expected a readable .npz file"),
    "version": (archive(tokens=b"\x93NUMPY\x09\x00" + b"\0" * 100), "expected a readable .npz file"),
    "dtype": (archive(tokens=shaped("(3, 4, 5)", "'<q99'")), "expected a readable .npz file"),
    "member-cut": (archive(tokens=npy(good()["tokens"])[:-8]), "expected a readable .npz file"),
    "member-text": (archive(tokens=b"not an array"), "expected a readable .npz file"),
    "objects": (archive(tokens=np.array([object()]).dumps()), "expected a readable .npz file"),
    "crc": (patched(archive(), 14, 16, 1, 4), "expected a readable .npz file"),
    "cut": (archive()[:-60], "expected a readable .npz file"),
    "front-cut": (archive()[60:], "expected a readable .npz file"),
    "empty": (b"", "expected a readable .npz file"),
    "text": (b"tokens = 1\n", "expected a readable .npz file"),
    "no-members": (packed({}), "lacks tokens"),
    "other-names": (packed({"x.npy": npy(np.ones(3))}), "lacks tokens, queries, labels"),
    "single": (npy(np.ones((3, 4, 5))), "holds a single array"),
    "complex-tokens": (archive(tokens=npy(good()["tokens"] + 1j)), "tokens: expected real numbers"),
    "complex-queries": (archive(queries=good()["queries"] + 0j), "queries: expected real numbers"),
    "complex-labels": (archive(labels=good()["labels"] + 0j), "labels: expected real numbers"),
    "complex-decoder": (archive(decoder=good()["decoder"] + 1j), "decoder: expected real numbers"),
    "complex-keys": (archive(keys=good()["tokens"] + 1j), "keys: expected real numbers"),
    "words": (archive(tokens=npy(np.full((3, 4, 5), "1"))), "tokens: expected real numbers"),
    "dates": (archive(tokens=npy(np.zeros((3, 4, 5), "M8[s]"))), "tokens: expected real numbers"),
    "records": (archive(tokens=npy(np.zeros((3, 4, 5), "f8,i4"))), "tokens: expected real numbers"),
    "nan": (archive(tokens=npy(good()["tokens"] * np.nan)), "tokens: expected finite numbers"),
    "decoder-1e308": (archive(decoder=np.sign(good()["decoder"]) * 1e308), "decoder: "),
    "decoder-1e200": (archive(decoder=good()["decoder"] * 1e200), "decoder: "),
    "tokens-1e200": (archive(tokens=npy(good()["tokens"] * 1e200), decoder=np.ones(5) / 1e200), "tokens: "),
    "tokens-1e-200": (archive(tokens=npy(good()["tokens"] / 1e200), decoder=good()["decoder"] * 1e200), "tokens: "),
    "queries-1e200": (archive(queries=good()["queries"] * 1e200), "queries: "),
    "two-axes": (archive(tokens=npy(np.ones((3, 4)))), "tokens: expected shape (n, T, d)"),
    "nothing-in-it": (archive(tokens=npy(np.ones((0, 4, 5)))), "tokens: expected at least n = 1"),
    "one-token": (archive(tokens=npy(np.ones((3, 1, 5)))), "tokens: expected at least n = 1 sequence, T = 2"),
    "short-labels": (archive(labels=np.ones(2)), "labels: expected shape (n,)"),
    "other-labels": (archive(labels=np.array([0.0, 1.0, 2.0])), "labels: expected +1 or -1"),
    "zero-decoder": (archive(decoder=np.zeros(5)), "decoder: expected a non-zero vector"),
    "far-queries": (archive(queries=np.array([0, 9, 1])), "queries: expected token indices from 0 to T - 1 = 3"),
    "mask-numbers": (archive(mask=np.ones((3, 4))), "mask: expected booleans"),
    "mask-none": (archive(mask=np.zeros((3, 4), bool)), "mask: expected a visible token"),
    "equal-tokens": (archive(tokens=npy(np.ones((3, 4, 5)))), "tokens: expected distinct tokens"),
}
STARTS = {  # files of --init, and what the message has to say
    "empty": (b"", "init: expected a readable .npy file"),
    "text": (b"1 2 3", "init: expected a readable .npy file"),
    "archive": (bytes(archive()), "init: expected a readable .npy file"),
    "objects": (np.array([object()]).dumps(), "init: expected a readable .npy file"),
    "cut": (npy(np.ones((5, 5)))[:-8], "init: expected a readable .npy file"),
    "shape20": (shaped("(100000000000000000000, 5, 5)"), "init: expected a readable .npy file"),
    "deep": (header("(" * 5000), "init: expected a readable .npy file"),
    "complex": (npy(np.ones((5, 5)) * 1j), "W0: expected real numbers"),
    "words": (npy(np.full((5, 5), "x")), "W0: expected real numbers"),
    "nan": (npy(np.full((5, 5), np.nan)), "W0: expected finite numbers"),
    "four-axes": (npy(np.ones((2, 2, 5, 5))), "W0: expected shape (d, e) or (lanes, d, e); got shape (2, 2, 5, 5)"),
    "other-size": (npy(np.ones((4, 4))), "W0: expected matrices (5, 5)"),
    "no-lanes": (npy(np.ones((0, 5, 5))), "lanes: expected at least 1"),
}


def fill(place):
    """Write all files of this module to a folder, and sound ones."""
    for name, (content, _) in FILES.items():
        (place / f"{name}.npz").write_bytes(content)
    for name, (content, _) in STARTS.items():
        (place / f"start-{name}.npy").write_bytes(content)
    (place / "good.npz").write_bytes(archive())
    (place / "start.npy").write_bytes(npy(np.eye(5)))
    (place / "folder.npz").mkdir()
    (place / "folder.npy").mkdir()
    (place / "full").mkdir()
    (place / "full" / "precious").write_text("x")
    (place / "file").write_text("x")


def tree(place):
    """Everything below a folder with sizes and times, but for what SQLite keeps beside a manifest that is read."""
    found = {}
    for path in sorted(place.rglob("*")):
        if path.name.endswith(("-wal", "-shm")):
            continue
        at = path.lstat()
        found[path.relative_to(place).as_posix()] = None if path.is_dir() else (at.st_size, at.st_mtime_ns)
    return found


def called(arguments, place, capsys):
    """Call the command line in this process: exit code, stdout, stderr."""
    from jaxsim import cli

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(sys, "argv", ["jaxsim", *map(str, arguments)])
        patch.setattr("jax.config.update", lambda *_: None)  # this process has its configuration already
        patch.setattr("jax.distributed.initialize", lambda *_: None)
        patch.setattr("jaxsim._machine.memory", lambda: LITTLE, raising=False)
        with pytest.raises(SystemExit) as stop:
            cli.main()
    said = capsys.readouterr()
    return stop.value.code, said.out, said.err


def refused(arguments, words, place, capsys, code=2):
    """The command ends with this exit code and one line of error that holds these words, and writes nothing."""
    before = tree(place)
    found, out, err = called(arguments, place, capsys)
    lines = [line for line in err.splitlines() if not line.startswith("running ")]
    assert found == code, err
    assert "Traceback" not in err + out and len(lines) == 1 and lines[0].startswith("error "), err
    assert words in lines[0], lines[0]
    assert not out and tree(place) == before
