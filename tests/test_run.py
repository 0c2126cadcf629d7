"""The run folder: whose results it holds, and when a stage is done."""

import shutil
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from lib.errors import InputError
from lib.files import read_yaml
from lib.options import Options, option
from lib.run import STAGES, Run, alone, claim


@dataclass(frozen=True, kw_only=True)
class Seed(Options):
    """Options of a stage whose only input is a file."""

    seed: int = option(0, "seed")
    file: str = option("1", "digest of the input", identity=False)

    def inputs(self):
        return {"a": self.file}


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


def test_changed_inputs_are_named(tmp_path):
    folder = claim(tmp_path / "stage", {"seed": 0}, {"a.png": "1", "b.png": "2"})
    claim(folder, {"seed": 0}, {"b.png": "2", "a.png": "1"})
    with pytest.raises(InputError, match=r"other inputs .changed: b.png, c.png.*overwrite"):
        claim(folder, {"seed": 0}, {"a.png": "1", "b.png": "3", "c.png": "4"})
    claim(folder, {"seed": 0}, {"a.png": "5"}, overwrite=True)
    claim(folder, {"seed": 0}, {"a.png": "5"})


def test_a_folder_whose_claim_was_interrupted_is_claimed_again(tmp_path):
    claim(tmp_path / "stage", {"seed": 0}, {"a": "1"})
    (tmp_path / "stage" / "parameters.yaml").unlink()
    claim(tmp_path / "stage", {"seed": 1}, {"a": "2"})
    claim(tmp_path / "stage", {"seed": 1}, {"a": "2"})


def test_the_record_says_what_made_the_result(tmp_path):
    run = Run(tmp_path)
    with run.recorded("augment", Seed(seed=3)) as results:
        assert run.entry("augment") is None
        results["images"] = 7
    entry = run.entry("augment")
    assert entry["parameters"] == {"seed": 3} and entry["results"] == {"images": 7}
    assert entry["versions"]["torch"] and entry["device"] and entry["git"] and entry["seconds"] >= 0


def test_a_stage_that_failed_is_not_finished(tmp_path):
    run = Run(tmp_path)
    with run.recorded("train", Seed()):
        pass
    with pytest.raises(RuntimeError), run.recorded("train", Seed()):
        raise RuntimeError
    assert run.entry("train") is None
    assert read_yaml(tmp_path / "run.yaml") == {}


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A run whose stages all finished."""
    monkeypatch.setattr("lib.run.environment", dict)
    run = Run(tmp_path)
    for folder in (run.augmented, run.train, run.masks):
        folder.mkdir()
    (run.train / "iter_3.pth").touch()
    run.submission.touch()
    for stage in STAGES:
        with run.recorded(stage, Seed()):
            pass
    return run


def done(run, **options):
    return [stage for stage in STAGES if run.is_done(stage, Seed(**options))]


def test_done_means_the_same_parameters_and_inputs(finished):
    assert done(finished) == list(STAGES)
    assert done(finished, seed=1) == done(finished, file="2") == []


def test_done_needs_the_results(finished):
    (finished.train / "iter_3.pth").unlink()
    finished.submission.unlink()
    assert done(finished) == ["augment", "infer"]


@pytest.mark.parametrize("again", STAGES)
def test_stages_after_one_that_ran_again_are_no_longer_done(finished, again):
    with finished.recorded(again, Seed()):
        assert done(finished) == list(STAGES[: STAGES.index(again)])
    assert done(finished) == list(STAGES[: STAGES.index(again) + 1])


def test_results_of_before_an_option_existed_had_its_default(tmp_path):
    before, now = {"seed": 0}, {"seed": 0, "flip": False}
    folder = claim(tmp_path / "stage", before)
    claim(folder, now, defaults={"flip": False})
    with pytest.raises(InputError, match="flip: None there, True now"):
        claim(folder, now | {"flip": True}, defaults={"flip": False})


def test_an_earlier_stage_is_part_of_what_follows(finished):
    before = finished.digest("augment")
    with finished.recorded("augment", Seed(file="2")):
        pass
    assert finished.digest("augment") != before


def test_checkpoints_are_found_by_their_iteration(tmp_path):
    run = Run(tmp_path)
    assert run.best_checkpoint() is None and run.last_checkpoint() is None and run.checkpoints() == []
    run.train.mkdir()
    for name in ("iter_90.pth", "iter_100.pth"):
        (run.train / name).touch()
    assert run.best_checkpoint().name == run.last_checkpoint().name == "iter_100.pth"
    (run.train / "best_mIoU_iter_90.pth").touch()
    assert run.best_checkpoint().name == "best_mIoU_iter_90.pth"
    assert [path.name for path in run.checkpoints()] == ["iter_90.pth", "iter_100.pth"]


def test_what_a_copied_run_lacks_is_named(finished):
    finished.need("augment")
    (finished.folder / "run.yaml").unlink()
    with pytest.raises(InputError, match=r"run\.yaml is missing, though .*augmented is there.*run 01_augment again"):
        finished.need("augment")
    with finished.recorded("augment", Seed()):
        with pytest.raises(InputError, match=r"train is unfinished.*Run 02_train"):
            with finished.recorded("submit", Seed()):
                pass
            finished.need("train")
    finished.masks.rmdir()
    with pytest.raises(InputError, match=r"masks is missing.*Run 03_infer"):
        finished.need("infer")


def test_changed_inputs_of_a_stage_are_named_but_other_options_are_not(tmp_path):
    run = Run(tmp_path)
    assert run.changes("augment", Seed()) == ""
    run.claim("augment", Seed())
    assert run.changes("augment", Seed()) == ""
    assert run.changes("augment", Seed(file="2")).endswith(
        "augmented holds results made from other inputs (changed: a)"
    )
    assert run.changes("augment", Seed(file="2", seed=1)) == ""


def test_a_changed_table_or_mask_of_a_submission_is_said(finished):
    assert finished.changes("submit", Seed()) == ""
    assert "other tables or masks" in finished.changes("submit", Seed(file="2"))


def test_a_stage_whose_results_are_replaced_is_no_longer_done(finished):
    for stage in ("augment", "train", "infer"):
        shutil.rmtree(finished._folder(stage))
        finished.claim(stage, Seed())
    (finished.train / "iter_3.pth").touch()
    with pytest.raises(InputError):
        finished.claim("train", Seed(seed=1))
    assert done(finished) == list(STAGES), "a refusal changes nothing"
    finished.claim("train", Seed(seed=1), overwrite=True)
    assert done(finished) == ["augment"]


def test_one_stage_at_a_time_runs_in_a_folder(tmp_path):
    run = Run(tmp_path / "run")

    @alone
    def stage(options):
        with run.locked("pipeline"), pytest.raises(InputError, match="is in use by process"):
            stage(options)
        return options.out

    assert stage(SimpleNamespace(out=run.folder)) == run.folder
