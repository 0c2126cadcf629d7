"""Checks of a config: it is built on the meta device, and one batch is read."""

import resource

import pytest

from lib.errors import InputError
from lib.training.checks import check_config, check_data
from lib.training.config import build_config
from lib.training.hardware import Hardware
from tests.builders import SMALL


def build(folder, recipe="demo", hardware=None, **given):
    return build_config(recipe, folder, hardware=hardware or Hardware(), amp=False, **given)


@pytest.mark.parametrize("recipe", ["demo", "demo_segformer"])
def test_a_sound_config_passes_and_stays_as_it_is(recipe, tmp_path):
    cfg = build(tmp_path, recipe)
    before = cfg.pretty_text
    check_config(cfg)
    assert cfg.pretty_text == before and not list(tmp_path.iterdir())


def test_the_network_has_no_memory(tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    check_config(build(tmp_path, "upernet_internimage_g"))  # 4 GiB of weights
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20, "KiB"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"model.decode_head.in_channels": [16, 32, 64, 64]},
            r"^model.decode_head: in_channels: .*16, 32, 64, 64.* \(expected: .*128",
        ),
        ({"model.backbone.type": "InternImages"}, r"^model.backbone.type: 'InternImages' .*did you mean InternImage"),
        ({"optim_wrapper.optimizer.type": "Adamw"}, r"^optim_wrapper.optimizer.type: 'Adamw' .*did you mean AdamW"),
        ({"optim_wrapper.optimizer.betas": [2.0, 0.9]}, "^optim_wrapper: Invalid beta parameter at index 0: 2.0"),
        (
            {"optim_wrapper.paramwise_cfg.layer_decay_rate": -0.5},
            "^optim_wrapper: a group .* would learn at the rate -",
        ),
        ({"model.decode_head.num_classes": 12}, r"^model.decode_head.num_classes: 12 \(expected: 13"),
    ],
)
def test_parts_that_cannot_be_built_are_named(given, message, tmp_path):
    with pytest.raises(InputError, match=message) as fault:
        check_config(build(tmp_path, options=given))
    assert "\n" not in str(fault.value)


def test_one_crop_is_refused_where_a_batch_norm_needs_two(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"batch_size: 1 \(expected: 2 or more; a batch norm"):
        check_config(build(tmp_path, batch_size=1))
    with pytest.raises(InputError, match="batch_size: 1"):
        check_config(build(tmp_path, batch_size=1, self_training=True))
    with pytest.raises(InputError, match="batch_size: 1"):
        check_config(build(tmp_path, batch_size=1, hardware=Hardware(gpus=2)))
    check_config(build(tmp_path, "demo_segformer", batch_size=1))
    # Batch norms of several GPUs are synchronised.
    check_config(build(tmp_path, batch_size=1, hardware=Hardware(2, gpus=2)))


@pytest.mark.parametrize("self_training", [False, True])
def test_one_batch_is_read(self_training, augmented, tmp_path):
    given = dict(options=SMALL, self_training=self_training)
    check_data(build(augmented / "augmented", **given))
    with pytest.raises(InputError, match="train_source.csv|no such folder"):
        check_data(build(tmp_path / "gone", **given))
    given["options"] = {**SMALL, "model.data_preprocessor.std": [0.0, 1.0, 1.0]}
    with pytest.raises(InputError, match="^model.data_preprocessor: .*std above 0"):
        check_data(build(augmented / "augmented", **given))
