"""Folders of results: kept, refused or replaced, and whole after a kill at any moment."""

import shutil

from lib.claims import changed, claim, placeless_names
from lib.errors import InputError
from tests.faults.kills import events, killed


def accepted(folder, seed, *attached):
    try:
        claim(folder, {"seed": seed}, {"a": str(seed)}, attached=attached)
    except InputError:
        return False
    return True


def test_a_replacement_that_is_killed_at_any_moment_leaves_the_former_results_or_none(tmp_path):
    before, folder, pictures = tmp_path / "before", tmp_path / "run" / "masks", tmp_path / "run" / "pictures"
    claim(before / "masks", {"seed": 0}, {"a": "0"})
    for name in ("masks/1.png", "masks/2.png", "pictures/1.jpg", "pictures/2.jpg"):
        (before / name).parent.mkdir(exist_ok=True)
        (before / name).touch()

    def replace():
        claim(folder, {"seed": 1}, {"a": "1"}, overwrite=True, attached=[pictures])

    def begin():
        shutil.rmtree(folder.parent, ignore_errors=True)
        shutil.copytree(before, folder.parent)

    begin()
    count = events(replace)
    assert count > 10
    seen = set()
    for at in range(1, count + 1):
        begin()
        assert killed(replace, at)
        former = accepted(folder, 0, pictures)
        assert accepted(folder, 1, pictures) != former, "the folder has one owner"
        assert all((folder / name).exists() == former for name in ("1.png", "2.png")), "old and new are not mixed"
        assert not former or all((pictures / name).exists() for name in ("1.jpg", "2.jpg"))
        replace()
        assert accepted(folder, 1) and not pictures.exists()
        assert [path.name for path in folder.parent.iterdir()] == ["masks"], "nothing is left over"
        seen.add(former)
    assert seen == {True, False}


def test_a_first_claim_that_is_killed_at_any_moment_does_not_block(tmp_path):
    folder = tmp_path / "stage"
    for at in range(1, events(lambda: claim(folder, {"seed": 0}, {"a": "0"})) + 1):
        shutil.rmtree(folder)
        assert killed(lambda: claim(folder, {"seed": 0}, {"a": "0"}), at)
        assert accepted(folder, 0)


def test_overwriting_continues_equal_results_and_restarting_does_not(tmp_path, capsys):
    folder = claim(tmp_path / "stage", {"seed": 0}, {"a": "0"})
    (folder / "result.txt").touch()
    claim(folder, {"seed": 0}, {"a": "0"}, overwrite=True)
    assert (folder / "result.txt").exists() and "restart=True" in capsys.readouterr().out
    claim(folder, {"seed": 0}, {"a": "0"}, restart=True)
    assert not (folder / "result.txt").exists()


def test_a_linked_folder_is_replaced_and_its_place_is_kept(tmp_path):
    place = claim(tmp_path / "elsewhere", {"seed": 0})
    (tmp_path / "stage").symlink_to(place)
    claim(tmp_path / "stage", {"seed": 1}, overwrite=True)
    assert not (tmp_path / "stage").is_symlink() and accepted(place, 0) is False and place.is_dir()


def test_a_moved_file_is_the_same_file(tmp_path):
    assert changed({"recipe": "/old/own.py", "load_from": {"checkpoint": "/old/a.pth"}}, {"recipe": "/new/own.py"}) == [
        "load_from"
    ]
    assert changed({"recipe": "/old/own.py"}, {"recipe": "/old/other.py"}) == ["recipe"]
    assert changed({"load_from": "https://a/b.pth"}, {"load_from": "https://c/b.pth"}) == ["load_from"]
    named = placeless_names({"a.png": "1", "../../far/c.pth": "2", "../near/c.pth": "3"})
    assert named == {"a.png": "1", "…/c.pth": "2", "…/c.pth'": "3"}
