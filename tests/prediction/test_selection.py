"""Checkpoints judged without labels: the criteria, and that no withheld label is read."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.dataset import image_files
from lib.dataset.classes import CLASSES, CLASSES_WITH_BACKGROUND
from lib.errors import InputError
from lib.files import read_yaml
from lib.prediction import selection
from lib.recipes.config_file import write_config
from lib.stages.infer import InferOptions, infer

COUNT = len(CLASSES_WITH_BACKGROUND)


class Fake:
    """In place of a network: labels ``uint8 (H, W)`` of an image, one-hot, by a rule that the checkpoint names."""

    rules = {
        "colours": lambda image: image[..., 0] // 20,
        "columns": lambda image: np.broadcast_to(np.arange(image.shape[1]) % COUNT, image.shape[:2]),
        "one": lambda image: np.zeros(image.shape[:2], int),
    }

    def __init__(self, config, checkpoint, options):
        self.rule = self.rules[Path(checkpoint).stem]

    def probabilities(self, images):
        labels = np.stack([np.minimum(self.rule(image), COUNT - 1) for image in images])
        return torch.from_numpy(np.moveaxis(np.eye(COUNT, dtype=np.float32)[labels], -1, 1))


@pytest.fixture
def frame(tmp_path):
    """Stripes of all classes' colours, not the same in the mirror."""
    image = np.repeat(np.arange(COUNT, dtype=np.uint8) * 20 + 5, 4)[None, :, None].repeat(30, 0).repeat(3, 2)
    image_files.write_png(tmp_path / "frame.png", image)
    return tmp_path / "frame.png"


def scores(monkeypatch, frame, rule, **more):
    monkeypatch.setattr(selection, "Network", Fake)
    return selection.unsupervised_score(frame.parent, f"{rule}.pth", [frame], **more)


def test_a_network_that_knows_its_classes_agrees_with_itself(monkeypatch, frame):
    found = scores(monkeypatch, frame, "colours")
    assert found["mirror"] == found["smaller"] == found["agreement"] == 1
    assert found["certainty"] == pytest.approx(1)
    assert found["information"] == pytest.approx(1)


def test_predictions_by_place_do_not_agree_with_their_mirror(monkeypatch, frame):
    assert scores(monkeypatch, frame, "columns")["mirror"] < 0.2


def test_one_class_everywhere_is_certain_but_worth_little(monkeypatch, frame):
    found = scores(monkeypatch, frame, "one")
    assert found["certainty"] == pytest.approx(1)
    assert found["agreement"] == pytest.approx(1 / len(CLASSES))
    assert found["information"] == pytest.approx(0, abs=1e-6)


def test_the_overlay_does_not_count(monkeypatch, frame):
    """Left out, the right half of the stripes takes its classes along."""
    mask = np.zeros((30, COUNT * 4), bool)
    mask[:, 24:] = True
    assert scores(monkeypatch, frame, "colours", mask=mask)["mirror"] == pytest.approx(6 / len(CLASSES))


@pytest.fixture(scope="module")
def run(sample, tmp_path_factory):
    """A run of untrained networks: the real ones, without the minutes."""
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    import lib.internimage  # noqa: F401  registers its classes
    from lib.training.config import build_config

    out = tmp_path_factory.mktemp("run")
    options = {"scale": (96, 54), "crop_size": (48, 80)}
    cfg = build_config("demo", out / "augmented", options=options)
    (out / "train").mkdir()
    write_config(cfg, out / "train" / "config.json")
    init_default_scope("mmseg")
    for step in (1, 2, 3):
        torch.manual_seed(step)
        torch.save({"state_dict": MODELS.build(cfg.model).state_dict()}, out / "train" / f"iter_{step}.pth")
    return out


@pytest.mark.slow
def test_inference_takes_the_checkpoint_and_the_scale_that_do_best(run, sample):
    frames = selection.target_frames(sample)
    assert len(frames) == 8
    names = [f"iter_{n}.pth" for n in (1, 2, 3)]
    found = {name: selection.unsupervised_score(run, run / "train" / name, frames) for name in names}
    assert all(0 <= value <= 1 for score in found.values() for value in score.values())
    best = max(found, key=lambda name: found[name][selection.CRITERION])
    at = {
        scale: selection.unsupervised_score(run, run / "train" / best, frames, scale=scale)[selection.CRITERION]
        for scale in selection.SCALES
    }
    infer(InferOptions(data=sample, out=run, checkpoint="target", scales="target"))
    done = read_yaml(run / "run.yaml")["infer"]["parameters"]
    assert done["checkpoint"] == [best]
    assert done["scales"] == [max(at, key=at.get)]


def test_withheld_labels_do_not_matter(run, sample, tmp_path):
    """Selection gives the same where there are none."""
    data = tmp_path / "data"
    shutil.copytree(sample, data, ignore=shutil.ignore_patterns("withheld"))
    assert selection.select(run, data) == selection.select(run, sample)
    path = run / "train" / "iter_1.pth"
    scores = [selection.unsupervised_score(run, path, selection.target_frames(folder)) for folder in (data, sample)]
    assert scores[0] == scores[1]


def test_only_what_makes_data_sets_knows_of_withheld_labels():
    lib = Path(selection.__file__).parents[1]
    knowing = {path.relative_to(lib).as_posix() for path in lib.rglob("*.py") if "withheld/" in path.read_text()}
    assert {name for name in knowing if not name.startswith("sample/")} == {"tools/rehearsal.py"}


def test_a_run_without_checkpoints_is_refused(sample, tmp_path):
    with pytest.raises(InputError, match="holds no checkpoint"):
        selection.select(tmp_path, sample)
