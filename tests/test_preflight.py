"""Preflight: all faults at once and nothing touched; what a run would do."""

import os
import shutil

import nbformat
import pytest
from click.testing import CliRunner

from lib import preflight
from lib.cli import main
from lib.dataset import checked, image_files, layout
from lib.errors import InputError
from lib.estimates import Step
from lib.files import read_yaml, write_yaml
from lib.pipeline import STAGES, notebooks_folder
from lib.run import Run, environment
from lib.stages.augment import AugmentOptions
from lib.stages.infer import InferOptions
from lib.stages.train import TrainOptions


def fisheye(*arguments):
    """Return the outcome of ``fisheye ARGUMENTS``: exit_code, stdout, stderr."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def state(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.rglob("*"))}


def test_faults_of_all_stages_come_in_one_list_and_nothing_is_touched(sample, tmp_path):
    data, out = tmp_path / "data", tmp_path / "run"
    shutil.copytree(sample, data)
    (data / "test.csv").unlink()
    label = layout.read_split(data, "train_source")[0].label
    label.write_bytes(label.read_bytes()[:-20])
    options = ["cameras_file", "no.yaml", "processes", "999", "load_from", "no.pth", "checkpoint", "none.pth"]
    given = [part for pair in zip(options[::2], options[1::2], strict=True) for part in ("-p", *pair)]
    done = fisheye("run", "--data", data, "--out", out, *given)
    assert done.exit_code == 1 and not out.exists()
    named = (label.name, "test.csv", "no.yaml", "processes: 999", "no.pth: no such file", "none.pth: no such file")
    assert [name for name in named if name not in done.stderr] == []
    assert done.stderr.startswith("Error: 6 faults, before any work:\n")


def test_a_dry_run_says_what_would_run_and_touches_nothing(sample, augmented, tmp_path):
    new = tmp_path / "new"
    done = fisheye("run", "--data", sample, "--out", new, "--to", "augment", "--dry-run")
    assert done.exit_code == 0 and "augment: 8 images on cpu" in done.stdout and "time unknown" in done.stdout
    assert not new.exists()
    shutil.copytree(augmented, new)
    os.utime(next((new / "augmented").rglob("*.png")))
    before = state(tmp_path)
    given = ["run", "--data", sample, "--out", new, "-p", "seed", 1, "--to", "augment", "--resume", "--dry-run"]
    assert "nothing is left to do" in fisheye(*given).stdout
    redone = fisheye("run", "--data", sample, "--out", tmp_path / "other", "--to", "augment", "--dry-run")
    assert f"(by the time of {new})" in redone.stdout
    assert state(tmp_path) == before


def test_a_sound_set_is_read_once(sample, tmp_path, monkeypatch):
    data, cache, calls = tmp_path / "data", tmp_path / "run" / "checked.json", []
    shutil.copytree(sample, data)
    check = layout.check
    monkeypatch.setattr(checked.layout, "check", lambda *given: calls.append(given) or check(*given))

    def again():
        checked._checked.clear()  # as another process does
        return checked.check_once(data, ("test",), cache)

    assert again() == again() and len(calls) == 1
    image = layout.read_split(data, "test")[0].image
    pixels = image_files.read_image(image)
    image_files.write_png(image, 255 - pixels)
    again()
    assert len(calls) == 2, "a changed image is read again"
    image.write_bytes(image.read_bytes()[:-9])
    for _ in range(2):
        with pytest.raises(InputError, match="truncated PNG"):
            again()
    assert len(calls) == 4, "a faulty set is never taken as sound"


def test_options_of_an_earlier_run_are_named_with_both_remedies(augmented, sample):
    run = Run(augmented)
    planned = {"augment": AugmentOptions(data=sample, out=augmented, copies=2)}
    before = state(augmented)
    with pytest.raises(InputError) as refused:
        preflight.check(run, sample, planned)
    assert "seed 1 there, 0 now" in str(refused.value) and "copies 1 there, 2 now" in str(refused.value)
    assert "Pass --overwrite to replace it, or -p copies 1 -p seed 1 again." in str(refused.value)
    assert state(augmented) == before
    preflight.check(run, sample, planned, overwrite=True)


@pytest.mark.parametrize("out", ["file", "file/below", "closed", "closed/below"])
def test_run_folders_that_cannot_be_written_are_refused(out, sample, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "closed").mkdir()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / "closed" and access(path, mode))
    planned = {"augment": AugmentOptions(data=sample, out=tmp_path / out)}
    with pytest.raises(InputError, match="Choose another --out|choose another --out"):
        preflight.check(Run(tmp_path / out), sample, planned)


def test_a_full_disk_and_a_small_gpu_are_refused(sample, tmp_path, monkeypatch):
    run = Run(tmp_path / "run")
    planned = {"augment": AugmentOptions(data=sample, out=run.folder)}
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2**20))
    with pytest.raises(InputError, match=r"1 MiB of disk are free \(expected: 64 MiB"):
        preflight.check(run, sample, planned)
    assert not run.folder.exists()
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda _: (2**30, 2**33))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(InputError, match=r"train: 1.0 GiB of GPU memory are free \(expected: about 8.0 GiB"):
        preflight._check_gpu_memory(Step("train", 1, "iterations", "a GPU", 1, None, "", 0, 2**33))


def test_other_versions_of_earlier_stages_are_said(augmented, sample, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(augmented, out)
    planned = {"train": TrainOptions(out=out)}
    assert preflight.other_versions(Run(out), planned) == []
    record = read_yaml(out / "run.yaml")
    record["augment"]["versions"]["numpy"] = "1.0"
    write_yaml(out / "run.yaml", record)
    (note,) = preflight.other_versions(Run(out), planned)
    assert f"augment was made with numpy 1.0; here is numpy {environment()['versions']['numpy']}" in note


def test_changed_inputs_of_earlier_stages_are_said(augmented, sample, tmp_path):
    data, out = tmp_path / "data", tmp_path / "run"
    shutil.copytree(sample, data)
    shutil.copytree(augmented, out)
    planned = {"infer": InferOptions(data=data, out=out)}
    assert preflight.stale(Run(out), data, planned) == []
    label = layout.read_split(data, "train_source")[1].label
    image_files.write_png(label, image_files.read_label(label)[::-1])
    (note,) = preflight.stale(Run(out), data, planned)
    assert f"augment ran with other inputs (changed: train_source_gt/{label.name})" in note
    assert preflight.stale(Run(out), data, {"augment": AugmentOptions(data=data, out=out), **planned}) == []


def test_inference_asks_for_the_camera_before_training(sample, tmp_path):
    out = tmp_path / "run"
    planned = {
        "augment": AugmentOptions(data=sample, out=out, augment=False),
        "infer": InferOptions(data=sample, out=out, apply_overlay=True),
    }
    with pytest.raises(InputError, match="apply_overlay need the target camera"):
        preflight.check(Run(out), sample, planned)


def test_notebook_01_checks_before_its_first_picture():
    notebook = nbformat.read(notebooks_folder() / STAGES["augment"].notebook, as_version=4)
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    (checks,) = [number for number, source in enumerate(cells) if "check(options)" in source]
    assert checks < next(number for number, source in enumerate(cells) if "plots.sheet" in source)


def test_a_folder_of_something_else_beside_the_run_is_passed_over(sample, tmp_path):
    for name, text in {"a": "5", "b": "[", "c": "augment: 3", "d": "augment: {parameters: {}}", "e": "\0"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.yaml").write_text(text)
    run = Run(tmp_path / "run")
    (step,), _ = preflight.check(run, sample, {"augment": AugmentOptions(data=sample, out=run.folder)})
    assert step.seconds is None and step.work == 8
