import pytest

from lib.errors import InputError
from lib.files import read_yaml, whole_file
from lib.run import claim, finished, recorded


def test_a_failed_write_leaves_nothing(tmp_path):
    target = tmp_path / "deep" / "result.txt"
    with pytest.raises(RuntimeError), whole_file(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert list(target.parent.iterdir()) == []
    with whole_file(target) as temporary:
        temporary.write_text("whole")
    assert [p.name for p in target.parent.iterdir()] == ["result.txt"]


def test_a_folder_belongs_to_its_parameters(tmp_path):
    folder = claim(tmp_path / "stage", {"seed": 0, "scales": (1.0, 2.0)})
    (folder / "result.txt").write_text("kept")
    claim(folder, {"seed": 0, "scales": (1.0, 2.0)})
    assert (folder / "result.txt").exists()
    with pytest.raises(InputError, match="seed: 0 there, 1 now.*overwrite"):
        claim(folder, {"seed": 1, "scales": (1.0, 2.0)})
    assert (folder / "result.txt").exists()
    claim(folder, {"seed": 1, "scales": (1.0, 2.0)}, overwrite=True)
    assert not (folder / "result.txt").exists()


def test_a_folder_of_someone_else_is_never_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="no run of this stage made"):
            claim(tmp_path, {"seed": 0}, overwrite=overwrite)
    assert (tmp_path / "thesis.txt").exists()


def test_the_record_says_what_made_the_result(tmp_path):
    with recorded(tmp_path, "augment", {"seed": 3}) as results:
        assert finished(tmp_path, "augment") is None
        results["images"] = 7
    entry = finished(tmp_path, "augment")
    assert entry["parameters"] == {"seed": 3} and entry["results"] == {"images": 7}
    assert entry["versions"]["torch"] and entry["device"] and entry["git"] and entry["seconds"] >= 0


def test_a_stage_that_failed_is_not_finished(tmp_path):
    with recorded(tmp_path, "train", {}):
        pass
    with pytest.raises(RuntimeError), recorded(tmp_path, "train", {}):
        raise RuntimeError
    assert finished(tmp_path, "train") is None
    assert read_yaml(tmp_path / "run.yaml") == {}
