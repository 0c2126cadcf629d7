"""Synthetic checkpoints with the names, shapes and wrappings of the public release, for every variant."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import nn

from lib.errors import InputError
from lib.internimage import InternImage
from lib.internimage.checkpoints.loading import check_weights, load_weights, parse_load_from
from lib.internimage.variants import VARIANTS
from lib.tools.convert import convert
from tests.builders import published
from tests.internimage.public_weights import TINY, thin, under

HEAD = {
    "conv_head.0.weight": (12, 8, 1, 1),
    "conv_head.1.0.weight": (12,),
    "conv_head.1.0.running_mean": (12,),
    "head.weight": (1000, 12),
    "head.bias": (1000,),
}
PROJECTOR = {
    "dcnv3_head_x4.0.weight": (4096, 64, 1, 1),
    "dcnv3_head_x3.weight": (1024, 32, 1, 1),
    "clip_projector.norm1_q.0.weight": (1024,),
    "clip_projector.cross_dcn.q_bias": (1024,),
    "fc_norm.0.weight": (768,),
    "head.weight": (1000, 768),
    "head.bias": (1000,),
}


def pretrained(variant: str) -> dict[str, torch.Tensor]:
    """A backbone's weights as the public classification checkpoints have them."""
    shapes = published()[variant]["shapes"]
    return thin({name: shape for name, shape in shapes.items() if variant != "t" or ".gamma" not in name})


def backbone(variant: str) -> InternImage:
    with torch.device("meta"):
        return InternImage(**VARIANTS[variant])


def segmentor(variant: str, classes: int) -> nn.Module:
    """UperNet on the meta device."""
    from lib import recipes

    cfg = recipes.load("demo").model
    width = VARIANTS[variant]["channels"]
    cfg.backbone = dict(type="InternImage", **VARIANTS[variant])
    cfg.decode_head.update(in_channels=[width, 2 * width, 4 * width, 8 * width], num_classes=classes)
    cfg.auxiliary_head.update(in_channels=4 * width, num_classes=classes)
    init_default_scope("mmseg")
    with torch.device("meta"):
        return MODELS.build(cfg)


@pytest.fixture()
def path(tmp_path):
    return tmp_path / "weights.pth"


@pytest.mark.parametrize("variant", VARIANTS)
def test_classification_checkpoints_of_every_variant_start_a_backbone(variant, path):
    weights = pretrained(variant)
    top = thin(PROJECTOR if variant in ("h", "g") else HEAD)
    torch.save({"model": weights | top, "max_accuracy": 83.5, "epoch": 299}, path)
    report = check_weights(backbone(variant), path)
    assert report.loaded == len(weights) and set(report.left_out) == set(top) and report.key == "model"
    factors = 2 * sum(VARIANTS["t"]["depths"]) if variant == "t" else 0
    assert len(report.untouched) == factors and all(name.endswith(("gamma1", "gamma2")) for name in report.untouched)
    other = "s" if variant != "s" else "t"
    with pytest.raises(InputError, match="another variant"):
        check_weights(backbone(other), path)


@pytest.mark.parametrize("variant", ["t", "h"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_segmentation_checkpoints_fit_whole_networks_and_backbones(variant, prefix, path):
    shapes = {name: tuple(value.shape) for name, value in segmentor(variant, 19).state_dict().items()}
    assert any(name.startswith("decode_head.psp_modules.0.1.") for name in shapes)
    content = {"meta": {"CLASSES": ("road",), "mmseg_version": "0.27.0"}, "state_dict": under(prefix, thin(shapes))}
    torch.save(content, path)
    whole = check_weights(segmentor(variant, 19), path)
    assert (whole.loaded, whole.left_out, whole.untouched) == (len(shapes), {}, {})
    alone = check_weights(backbone(variant), path)
    assert alone.loaded == len(published()[variant]["shapes"])
    assert alone.left_out and set(alone.left_out.values()) == {"of a head, and the network is a backbone alone"}


def test_the_release_for_transformers_has_other_names(path):
    weights = pretrained("s")
    torch.save(under("model.", {re.sub(r"gamma([12])$", r"layer_scale\1", k): v for k, v in weights.items()}), path)
    report = check_weights(backbone("s"), path)
    assert report.loaded == len(weights) and report.renamed == 66


def test_networks_trained_without_factors_compute_the_same_with_factors_of_one(path):
    torch.manual_seed(0)
    plain = InternImage(**TINY, layer_scale=None, drop_path_rate=0.0)
    for parameter in plain.parameters():
        nn.init.normal_(parameter, std=0.2)
    torch.save({"model": plain.state_dict()}, path)
    scaled = InternImage(**TINY, layer_scale=0.1, drop_path_rate=0.0)
    report = load_weights(scaled, path)
    assert report.loaded == len(plain.state_dict()) and len(report.untouched) == 8
    image = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(scaled(image), plain(image))
    # The other way round there is no such network.
    torch.save(scaled.state_dict(), path)
    with pytest.raises(InputError, match="gamma1 .8,. has no place in the network"):
        load_weights(InternImage(**TINY), path)


def test_how_users_write_load_from():
    assert parse_load_from("a.pth") == parse_load_from(Path("a.pth")) == ("a.pth", {})
    assert parse_load_from({"checkpoint": "a.pth", "classes": []}) == ("a.pth", {"classes": []})
    for wrong, fault in (({"classes": []}, "no checkpoint"), ({"checkpoint": "a", "class": 1}, "'class'")):
        with pytest.raises(InputError, match=f"load_from: {fault} .*checkpoint, classes, ema, partial"):
            parse_load_from(wrong)


# Averages


def filled(value: float) -> dict[str, torch.Tensor]:
    return {name: torch.full_like(tensor, value) for name, tensor in InternImage(**TINY).state_dict().items()}


def used(content, path, **options) -> float:
    """Value of the weights that a backbone has got from a file of ``content``."""
    torch.save(content, path)
    network = InternImage(**TINY)
    load_weights(network, path, **options)
    (value,) = {value for tensor in network.state_dict().values() for value in tensor.unique().tolist()}
    return value


def test_averages_are_used_when_asked_for(path):
    classification = {"model": filled(1.0), "model_ema": under("module.", filled(2.0)), "max_accuracy_ema": 84.0}
    buffers = {"ema_" + name.replace(".", "_"): tensor for name, tensor in filled(2.0).items()}
    mmcv1 = {"state_dict": filled(1.0) | buffers}
    for content in (classification, mmcv1):
        assert (used(content, path), used(content, path, ema=True)) == (1.0, 2.0)
    torch.save(mmcv1, path)
    assert set(check_weights(InternImage(**TINY), path).left_out.values()) == {"a running average of the weights"}
    # mmengine keeps the average as the weights.
    mmengine = {"state_dict": filled(2.0), "ema_state_dict": under("module.", filled(1.0)) | {"steps": torch.tensor(9)}}
    assert used(mmengine, path) == used(mmengine, path, ema=True) == 2.0
    assert used({"model_ema": filled(3.0)}, path) == used({"module": filled(3.0)}, path) == 3.0
    with pytest.raises(InputError, match="holds no running average"):
        used({"model": filled(1.0)}, path, ema=True)


# Files that need more than weights


class Settings:
    """Stands for a configuration object pickled beside the weights."""


def test_trusted_files_are_converted(path):
    weights = InternImage(**TINY).state_dict()
    torch.save({"model": weights, "config": Settings(), "epoch": 3, "optimizer": {"state": {0: weights}}}, path)
    new = path.with_name("new.pth")
    with pytest.raises(InputError, match=r"would run code .*Settings.*fisheye convert \S+weights.pth \S+"):
        load_weights(InternImage(**TINY), path)
    assert convert(path, new) == len(weights)
    assert load_weights(InternImage(**TINY), new).loaded == len(weights)
    torch.save({"epoch": 3}, path)
    with pytest.raises(InputError, match="weights.pth: holds no tensors"):
        convert(path, new)
    with pytest.raises(InputError, match="no such file"):
        convert(path.with_name("gone.pth"), new)
