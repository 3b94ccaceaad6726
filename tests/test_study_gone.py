"""A folder that is moved, deleted or replaced while a study runs in it."""

import shutil

import pytest
from study_files import TOML, Fake, contents, small
from test_study_crash import finish, start, wait_for_shards

from jaxsim import study as studies
from jaxsim.study import folder

LONG = TOML.replace("lanes = 60", "lanes = 2000")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    place = tmp_path_factory.mktemp("study") / "s"
    studies.run(small(), place, engine=Fake)
    return place


def at(count, deed):
    """A hook that does something to the folder once so many shards are made."""

    def progress(state):
        if state.new_shards == count and not deeds:
            deeds.append(deed())

    deeds = []
    return progress


@pytest.mark.parametrize("when", [0, 1, 5, 12])
def test_a_folder_that_is_moved_is_told_and_can_be_moved_back(whole, tmp_path, when):
    place, other = tmp_path / "s", tmp_path / "elsewhere"
    with pytest.raises(folder.Gone, match="the folder was moved or deleted"):
        studies.run(small(), place, engine=Fake, progress=at(when, lambda: place.rename(other)))
    assert not place.exists()  # nothing is written where nobody would look for it
    assert len(contents(other)[1]) == when
    other.rename(place)
    assert studies.run(small(), place, engine=Fake).new_shards == 12 - when
    assert contents(place) == contents(whole)


@pytest.mark.parametrize("when", [0, 5, 12])
def test_a_folder_that_is_deleted_is_told(tmp_path, when):
    place = tmp_path / "s"
    with pytest.raises(folder.Gone, match="the folder was moved or deleted"):
        studies.run(small(), place, engine=Fake, progress=at(when, lambda: shutil.rmtree(place)))
    assert not place.exists()


@pytest.mark.parametrize("name", ["manifest-0000.sqlite", "lock"])
def test_a_manifest_or_a_lock_that_is_deleted_is_told(tmp_path, name):
    place = tmp_path / "s"
    with pytest.raises(folder.Gone, match=name):
        studies.run(small(), place, engine=Fake, progress=at(5, (place / name).unlink))


def test_another_folder_in_its_place_is_left_alone(whole, tmp_path):
    place = tmp_path / "s"

    def swap():
        place.rename(tmp_path / "elsewhere")
        shutil.copytree(whole, place)

    with pytest.raises(folder.Gone):
        studies.run(small(), place, engine=Fake, progress=at(5, swap))
    assert contents(place) == contents(whole)


def test_shards_that_vanish_at_work_are_told_at_the_end(whole, tmp_path):
    place = tmp_path / "s"
    found = studies.run(small(), place, engine=Fake, progress=at(5, lambda: shutil.rmtree(place / "shards")))
    assert len(found.damaged) == 5 and found.new_shards == 12
    assert studies.run(small(), place, engine=Fake, repair=True).repaired == found.damaged
    assert contents(place) == contents(whole)


@pytest.mark.parametrize("deed", [pytest.param("move", marks=pytest.mark.slow), "delete"])
def test_a_process_whose_folder_vanishes_ends_with_one(tmp_path, deed):
    process = start(tmp_path, text=LONG)
    wait_for_shards(tmp_path, 3)
    if deed == "move":
        (tmp_path / "out").rename(tmp_path / "elsewhere")
    else:
        (tmp_path / "out").rename(tmp_path / "deleted")  # at once, so that no shard appears while its folder is emptied
        shutil.rmtree(tmp_path / "deleted")
    said = finish(process, 1)
    assert "error out" in said and "the folder was moved or deleted" in said and "shards made" not in said
    assert not (tmp_path / "out").exists()
    if deed == "move":
        (tmp_path / "elsewhere").rename(tmp_path / "out")
        had = len(contents(tmp_path / "out")[1])
        assert had >= 2
        assert f"{400 - had} shards made" in finish(start(tmp_path, text=LONG))
