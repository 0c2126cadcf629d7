"""Self-training as a run: its crops, its checkpoints, and trainings that stop and go on."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from PIL import Image

import lib.internimage  # noqa: F401  registers its classes
from lib.dataset import image_files, layout
from lib.dataset.classes import BACKGROUND, IGNORE
from lib.dataset.rare_classes import rare_class_weights
from lib.errors import InputError
from lib.files import read_yaml, write_yaml
from lib.prediction.network import Network
from lib.run import Run
from lib.stages.augment import AugmentOptions, augment
from lib.stages.train import TrainOptions, scalars, train
from lib.training.config import build_config
from lib.training.self_training.pairs import LoadTargetImage
from tests.builders import train_copy

QUICK = dict(
    max_iters=4,
    batch_size=2,
    self_training=True,
    options={
        "scale": (192, 108),
        "crop_size": (96, 160),
        "num_workers": 1,
        "val_interval": 2,
        "model.decode_head.dropout_ratio": 0.1,
        "self_training.warmup": 0.25,
        "self_training.threshold": 0.1,
        "self_training.mix": 0.5,
        "self_training.mask_ratio": 0.5,
        "self_training.colour": 0.4,
    },
)


@pytest.fixture(scope="session")
def bent(sample, tmp_path_factory):
    """A run whose set was made without the sample's withheld labels anywhere near."""
    data = tmp_path_factory.mktemp("blind") / "sample"
    shutil.copytree(sample, data, ignore=shutil.ignore_patterns("withheld"))
    out = tmp_path_factory.mktemp("runs") / "adapting"
    augment(AugmentOptions(data=data, out=out, seed=1))
    return out


def crops(bent, **changed):
    from mmseg.registry import DATASETS

    import lib.training.self_training.pairs  # noqa: F401

    cfg = build_config("demo", bent / "augmented", options=QUICK["options"] | changed, self_training=True, seed=5)

    init_default_scope("mmseg")
    return DATASETS.build(cfg.train_dataloader.dataset)


@pytest.mark.slow
def test_a_crop_depends_on_its_position_alone(bent):
    first, second = crops(bent), crops(bent)
    here = [first[i] for i in (0, 1, 2, 3, 40)]
    there = [second[i] for i in (40, 3, 2, 1, 0)][::-1]
    for a, b in zip(here, there, strict=True):
        assert torch.equal(a["inputs"], b["inputs"])
        assert torch.equal(a["data_samples"].gt_sem_seg.data, b["data_samples"].gt_sem_seg.data)
    assert not torch.equal(here[0]["inputs"], here[2]["inputs"])


@pytest.mark.slow
def test_source_and_target_take_turns(bent):
    pairs = crops(bent)
    named = [Path(pairs[i]["data_samples"].img_path) for i in range(16)]
    assert all("source" in p.name.lower() for p in named[0::2])
    frames = layout.read_split(bent / "augmented", "train_target")
    assert {p.name for p in named[1::2]} == {item.image.name for item in frames}


@pytest.mark.slow
def test_the_surroundings_move_with_the_crop(bent, tmp_path):
    folder = tmp_path / "augmented"
    shutil.copytree(bent / "augmented", folder)
    mask = image_files.read_label(folder / "overlay_mask.png") > 0
    white = np.where(mask, 255, 0).astype(np.uint8)[..., None].repeat(3, 2)  # exactly where the surroundings are
    image_files.write_png(folder / "frame.png", white)
    (folder / "train_target.csv").write_text("id,img_path\nframe,frame.png\n")
    pairs = crops(tmp_path)
    for i in range(1, 20, 2):
        crop = pairs[i]
        label = crop["data_samples"].gt_sem_seg.data[0]
        assert set(label.unique().tolist()) <= {BACKGROUND, IGNORE}
        bright = crop["inputs"].float().mean(0) > 127
        assert (bright == (label == BACKGROUND)).float().mean() > 0.97


def test_target_images_are_read_without_their_orientation(tmp_path):
    tag = Image.Exif()
    tag[0x0112] = 6  # turned by 90 degrees
    path = tmp_path / "turned.jpg"
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(path, exif=tag)
    assert LoadTargetImage()({"img_path": str(path)})["img_shape"] == (20, 30)


def test_ranks_share_the_pairs_and_resume_within_them(monkeypatch):
    import itertools

    from mmengine.dataset import sampler

    from lib.training.self_training import pairs

    seen = []
    for rank in (0, 1):
        monkeypatch.setattr(sampler, "get_dist_info", lambda rank=rank: (rank, 2))
        seen.append(list(itertools.islice(pairs.PairSampler([], seed=0), 8)))
        late = pairs.PairSampler([], seed=0)
        late.skip(4)
        assert list(itertools.islice(late, 4)) == seen[-1][4:]
    assert seen[0][:4] == [0, 1, 4, 5] and sorted(seen[0] + seen[1]) == list(range(16))


@pytest.mark.slow
def test_images_of_rare_classes_are_drawn_more_often(sample, tmp_path):
    augment(AugmentOptions(data=sample, out=tmp_path / "three", copies=3, appearance="none"))
    table = layout.read_table(tmp_path / "three" / "augmented" / "train_source.csv", ("id", "weight"))
    weight = table["weight"].astype(float).groupby(table["id"].str.rsplit("_", n=1).str[0]).sum()
    wanted = rare_class_weights(layout.read_split(sample, "train_source"))
    assert np.allclose(weight / weight.sum(), [wanted[i] for i in weight.index], atol=1e-4)
    pairs = crops(tmp_path / "three", **{"self_training.rare": True})
    assert np.allclose(pairs.chances, table["weight"].astype(float) / len(wanted), atol=1e-4)
    assert crops(tmp_path / "three").chances is None


@pytest.fixture(scope="session")
def adapted(bent, tmp_path_factory):
    return train_copy(bent, tmp_path_factory.mktemp("runs") / "adapted", QUICK)


def saved(out, name="iter_4.pth"):
    found = torch.load(out / "train" / name, weights_only=False)
    return found["state_dict"], {k.removeprefix("student."): v for k, v in found["self_training"].items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.slow
def test_the_teacher_is_what_inference_loads(bent, adapted):
    best = Run(adapted).best_checkpoint()
    network = Network(Run(adapted).config, best)
    assert same(dict(network.model.state_dict()), saved(adapted, best.name)[0])
    teacher, student = saved(adapted)
    assert student.pop("teacher.steps") == 4 and student.pop("shares.source").sum() == pytest.approx(1)
    assert student.pop("shares.named").sum() == pytest.approx(1) and student.pop("shares.log_factor").any()
    assert student.keys() == teacher.keys() and not same(student, teacher)
    logged = scalars(adapted)
    assert np.isfinite(logged["source"][1] + logged["target"][1]).all() and "confident" in logged


@pytest.mark.slow
def test_a_resumed_training_ends_where_an_undisturbed_one_does(adapted, tmp_path):
    out = tmp_path / "resumed"
    shutil.copytree(adapted, out)
    folder = out / "train"
    for path in [*folder.glob("*.pth"), *folder.glob("best*")]:
        path.unlink(missing_ok=True)
    record = read_yaml(out / "run.yaml")
    del record["train"]
    write_yaml(out / "run.yaml", record)
    shutil.copy(adapted / "train" / "iter_2.pth", folder)
    train(TrainOptions(out=out, **QUICK))
    assert "resumed" in (folder / "train.log").read_text()
    for before, after in zip(saved(adapted), saved(out), strict=True):
        assert same(before, after)


@pytest.mark.slow
def test_withheld_labels_change_nothing(sample, adapted, tmp_path):
    out = tmp_path / "seeing"
    assert (sample / "withheld" / "train_target_gt").is_dir()
    augment(AugmentOptions(data=sample, out=out, seed=1))
    train(TrainOptions(out=out, **QUICK))
    assert same(saved(adapted)[0], saved(out)[0])
    assert Run(adapted).best_checkpoint().name == Run(out).best_checkpoint().name


@pytest.mark.slow
def test_two_processes_teach_themselves_together(bent, tmp_path):
    out = tmp_path / "two"
    shutil.copytree(bent, out)
    train(TrainOptions(out=out, processes=2, **QUICK))
    teacher, student = saved(out)
    assert student.pop("teacher.steps") == 4 and not same(student, teacher)
    assert np.isfinite(scalars(out)["target"][1]).all()


@pytest.mark.slow
def test_a_source_only_network_is_a_start(bent, adapted, tmp_path):
    out = tmp_path / "warm"
    shutil.copytree(bent, out)
    best = Run(adapted).best_checkpoint()
    still = QUICK["options"] | {"optim_wrapper.optimizer.lr": 0.0, "self_training.warmup": 0.0, "val_interval": 1}
    train(TrainOptions(out=out, **(QUICK | dict(max_iters=1, options=still)), load_from=best))
    started = saved(adapted, best.name)[0]
    learned = [name for name in started if "running" not in name and "batches" not in name]
    for weights in saved(out, "iter_1.pth"):
        assert all(torch.equal(weights[name], started[name]) for name in learned)


def test_the_teacher_looks_back_over_a_share_of_the_training(bent):
    for iters, alpha in ((5, 0.5), (250, 0.9), (2500, 0.99), (160000, 0.999)):
        cfg = build_config("demo", bent / "augmented", max_iters=iters, self_training=True)
        assert cfg.model.alpha == pytest.approx(alpha) and cfg.model.warmup_iters == round(0.3 * iters)


def test_the_targets_crops_are_enlarged(bent):
    enlarged = [{"self_training.enlarge": factor} for factor in (1.0, 1.5)]
    cfgs = [build_config("demo", bent / "augmented", options=given, self_training=True) for given in enlarged]
    steps = [{step["type"]: step for step in cfg.train_dataloader.dataset.target.pipeline} for cfg in cfgs]
    plain, larger = (step["RandomResize"]["ratio_range"] for step in steps)
    assert larger == tuple(1.5 * ratio for ratio in plain)
    sources = [cfg.train_dataloader.dataset.source.pipeline for cfg in cfgs]
    assert sources[0] == sources[1]


def test_faulty_requests_are_named(bent, tmp_path):
    with pytest.raises(InputError, match="self_training.treshold is no setting .*threshold"):
        train(TrainOptions(out=bent, self_training=True, options={"self_training.treshold": 0.5}))
    with pytest.raises(InputError, match="self_training.warmup is set, but self_training is off"):
        train(TrainOptions(out=bent, options={"self_training.warmup": 0.5}))
    out = tmp_path / "old"
    shutil.copytree(bent, out)
    (out / "augmented" / "train_target.csv").unlink()
    with pytest.raises(InputError, match="train_target.csv"):
        train(TrainOptions(out=out, self_training=True))
