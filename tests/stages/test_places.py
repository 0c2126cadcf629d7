"""Runs and data sets that were moved, copied or mixed up; overwriting and restarting; two runs in one folder."""

import os
import shutil

import pytest

from lib.dataset import image_files, layout
from lib.errors import InputError
from lib.files import write_yaml
from lib.run import Run
from lib.sample import write
from lib.stages.augment import AugmentOptions, augment
from lib.stages.infer import InferOptions, check_target, infer
from lib.stages.submit import SubmitOptions, submit
from lib.stages.train import TrainOptions, train
from tests.builders import IMAGE_SIZE, random_run

pytestmark = pytest.mark.slow

PLAIN = dict(lens="random", copies=0, seed=1)


@pytest.fixture(scope="module")
def project(sample, tmp_path_factory):
    """A folder with a data set, and a run of it whose first stage is done and whose network is untrained."""
    folder = tmp_path_factory.mktemp("project") / "here"
    shutil.copytree(sample, folder / "data")
    augment(AugmentOptions(data=folder / "data", out=folder / "outputs" / "run", **PLAIN))
    random_run(folder / "outputs" / "run" / "train", 0)
    return folder


@pytest.fixture
def copied(project, tmp_path):
    folder = tmp_path / "there" / "deeper"
    shutil.copytree(project, folder)
    return folder


def choices(folder, **given):
    checkpoint = [folder / "outputs" / "run" / "train" / "iter_1.pth"]
    return InferOptions(data=folder / "data", out=folder / "outputs" / "run", checkpoint=checkpoint, **given)


def submission(folder, **given):
    return submit(
        SubmitOptions(data=folder / "data", out=folder / "outputs" / "run", submission_size=IMAGE_SIZE, **given)
    )


@pytest.fixture(scope="module")
def other_data(tmp_path_factory):
    """Another drive with the same ids."""
    return write(tmp_path_factory.mktemp("other") / "data", source=1, val=1, target=8, test=3, size=(192, 108), seed=9)


def test_a_copied_project_keeps_its_runs_and_reads_its_own_images(copied):
    run = Run(copied / "outputs" / "run")
    options = AugmentOptions(data=copied / "data", out=run.folder, **PLAIN)
    assert run.is_done("augment", options) and not run.changes("augment", options)
    for split in ("train_source", "train_target"):
        for item in layout.read_split(run.augmented, split):
            assert item.image.resolve().is_relative_to(copied.resolve())


def test_a_copied_project_keeps_its_masks(copied, tmp_path):
    infer(choices(copied))
    moved = tmp_path / "moved"
    copied.rename(moved)
    run = Run(moved / "outputs" / "run")
    assert run.is_done("infer", choices(moved)) and not run.changes("infer", choices(moved))


def test_a_run_folder_that_left_its_data_set_finds_it_again(copied, tmp_path):
    run = Run(tmp_path / "alone")
    (copied / "outputs" / "run").rename(run.folder)
    options = AugmentOptions(data=copied / "data", out=run.folder, **PLAIN)
    assert not run.is_done("augment", options) and not run.changes("augment", options)
    augment(options)
    assert run.is_done("augment", options)


def test_a_deleted_augmented_image_is_rendered_again(copied):
    run = Run(copied / "outputs" / "run")
    options = AugmentOptions(data=copied / "data", out=run.folder, **PLAIN)
    item = layout.read_split(run.augmented, "val_source")[0]
    before = item.image.read_bytes()
    item.image.unlink()
    assert not run.is_done("augment", options)
    augment(options)
    assert item.image.read_bytes() == before


def test_another_data_set_is_refused_unless_it_is_confirmed(copied, other_data):
    here = copied / "data"
    shutil.rmtree(here)
    shutil.copytree(other_data, here)
    found = "0 of its 8 target frames are those that .*augmented was made for .*here/data.*other_data=True"
    with pytest.raises(InputError, match=found):
        infer(choices(copied))
    (here / "train_target.csv").unlink()
    with pytest.raises(InputError, match="0 of its 0 target frames"):
        check_target(choices(copied))
    infer(choices(copied, other_data=True))


def test_a_few_changed_frames_do_not_make_another_data_set(copied):
    frame = layout.read_split(copied / "data", "train_target")[0].image
    image_files.write_png(frame, 255 - image_files.read_image(frame))
    check_target(choices(copied))


def test_masks_of_other_test_images_are_refused_unless_that_is_confirmed(copied, other_data):
    infer(choices(copied))
    path, _ = submission(copied)
    before = path.read_bytes()
    image = layout.read_split(copied / "data", "test")[1].image
    shutil.copyfile(layout.read_split(other_data, "test")[1].image, image)
    found = f"1 of 3 test images, such as test_image/{image.name}, are not those of .*data that .*masks was made from"
    with pytest.raises(InputError, match=found):
        submission(copied)
    assert path.read_bytes() == before
    submission(copied, other_data=True)


def test_exchanged_test_images_are_noticed(copied):
    infer(choices(copied))
    first, second, _ = (item.image for item in layout.read_split(copied / "data", "test"))
    first.rename(copied / "aside.png")
    second.rename(first)
    (copied / "aside.png").rename(second)
    with pytest.raises(InputError, match="2 of 3 test images"):
        submission(copied)


def test_a_deleted_checkpoint_of_a_finished_training_is_said(copied):
    run = Run(copied / "outputs" / "run")
    write_yaml(run.folder / "run.yaml", {"train": {"parameters": {}}})
    run.last_checkpoint().unlink()
    with pytest.raises(InputError, match="train is unfinished or incomplete"):
        infer(InferOptions(data=copied / "data", out=run.folder))


def test_another_best_checkpoint_is_a_changed_input(copied):
    run = Run(copied / "outputs" / "run")
    options = InferOptions(data=copied / "data", out=run.folder)
    write_yaml(run.folder / "run.yaml", {"train": {"parameters": {}}})
    infer(options)
    run.last_checkpoint().rename(run.train / "best_mIoU_iter_2.pth")
    assert "changed: checkpoint, " in run.changes("infer", options.resolved(), options.chosen())


def test_overwriting_keeps_equal_masks_and_restarting_does_not(copied):
    masks = infer(choices(copied))
    mask = next(masks.glob("*.png"))
    before = mask.stat().st_mtime_ns
    infer(choices(copied, overwrite=True))
    assert mask.stat().st_mtime_ns == before
    infer(choices(copied, restart=True))
    assert mask.stat().st_mtime_ns > before


def test_overwriting_continues_an_interrupted_training_with_the_same_options(copied, monkeypatch):
    """As a notebook that was left on overwrite does; other options replace it."""
    run, seen = Run(copied / "outputs" / "run"), []

    def launch(run, *_):
        seen.append(run.last_checkpoint() and run.last_checkpoint().name)
        (run.train / f"iter_{len(seen)}.pth").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("lib.stages.train.launch", launch)
    shutil.rmtree(run.train)
    for given in ({}, {"overwrite": True}, {"overwrite": True, "seed": 4}, {"restart": True, "seed": 4}, {"seed": 4}):
        with pytest.raises(KeyboardInterrupt):
            train(TrainOptions(out=run.folder, **given))
    assert seen == [None, "iter_1.pth", None, None, "iter_4.pth"]


def test_two_stages_in_one_folder_are_refused(copied):
    with Run(copied / "outputs" / "run").locked():
        for work in (lambda: infer(choices(copied)), lambda: submission(copied)):
            with pytest.raises(InputError, match=f"run is in use by process {os.getpid()} on "):
                work()
    infer(choices(copied))


def test_a_run_folder_copied_without_its_record_is_said(copied):
    (copied / "outputs" / "run" / "run.yaml").unlink()
    with pytest.raises(InputError, match=r"run\.yaml is missing, though .*augmented is there"):
        train(TrainOptions(out=copied / "outputs" / "run"))
