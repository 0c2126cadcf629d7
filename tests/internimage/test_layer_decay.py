import gzip
import json
from pathlib import Path

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from lib.internimage import InternImage, LayerDecayOptimWrapperConstructor
from lib.internimage.layer_decay import layer_of

GOLDEN = Path(__file__).parents[1] / "golden"
DEPTHS = [1, 2, 3, 2]
OPTIONS = dict(num_layers=8, layer_decay_rate=0.5, depths=DEPTHS)


class Segmentor(nn.Module):
    def __init__(self, **arguments):
        super().__init__()
        self.backbone = InternImage(channels=8, depths=DEPTHS, groups=[1, 2, 4, 8], mlp_ratio=1.0, **arguments)
        self.decode_head = nn.ModuleDict(
            dict(conv_seg=nn.Conv2d(64, 3, 1), query_embed=nn.Embedding(2, 4), sampling_offsets=nn.Linear(4, 4))
        )


def groups(network, **options):
    config = dict(
        type="OptimWrapper",
        optimizer=dict(type="AdamW", lr=1e-2, weight_decay=0.05),
        constructor="LayerDecayOptimWrapperConstructor",
        paramwise_cfg=OPTIONS | options,
    )
    return build_optim_wrapper(network, config).optimizer.param_groups


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("backbone.patch_embed.conv1.weight", 0),
        ("backbone.levels.0.blocks.0.dcn.offset.weight", 1),
        ("backbone.levels.0.norm.0.weight", 2),
        ("backbone.levels.0.downsample.conv.weight", 2),
        ("backbone.levels.1.blocks.0.gamma1", 2),
        ("backbone.levels.1.blocks.1.mlp.fc1.bias", 3),
        ("backbone.levels.1.downsample.norm.1.weight", 4),
        ("backbone.levels.2.blocks.2.norm1.0.weight", 6),
        ("backbone.levels.2.post_norms.0.0.weight", 4),
        ("backbone.levels.2.norm.0.bias", 7),
        ("backbone.levels.3.blocks.1.dcn.mask.weight", 8),
        ("backbone.levels.3.norm.0.weight", 7),
        ("decode_head.conv_seg.weight", 9),
        ("auxiliary_head.convs.0.conv.weight", 9),
        ("decode_head.query_embed.weight", 0),
        ("decode_head.pixel_decoder.level_embeds.weight", 0),
    ],
)
def test_layers_are_the_public_ones(name, layer):
    assert layer_of(name, DEPTHS) == layer


def test_rates_and_decay_by_group():
    network = Segmentor(layer_scale=1.0)
    found = groups(network)
    assert {group["group_name"]: group["lr_scale"] for group in found} == {
        f"layer_{i}_{decay}": 0.5 ** (9 - i) for i in range(10) for decay in ("decay", "no_decay")
    }
    shapes = {name: parameter.ndim for name, parameter in network.named_parameters()}
    for group in found:
        assert group["lr"] == pytest.approx(1e-2 * group["lr_scale"])
        assert group["weight_decay"] == (
            0.05 if group["group_name"].endswith("_decay") and "no" not in group["group_name"] else 0.0
        )
        for name in group["param_names"]:
            kept = shapes[name] == 1 or "norm" in name or "sampling_offsets" in name
            assert group["group_name"] == f"layer_{layer_of(name, DEPTHS)}_{'no_decay' if kept else 'decay'}"
    listed = [id(parameter) for group in found for parameter in group["params"]]
    assert sorted(listed) == sorted(id(parameter) for parameter in network.parameters())


def test_frozen_weights_are_left_out():
    names = [name for group in groups(Segmentor(frozen_stages=2)) for name in group["param_names"]]
    assert not any(name.startswith(("backbone.patch_embed", "backbone.levels.1.")) for name in names)
    assert any(name.startswith("backbone.levels.2.") for name in names)


def test_small_backbone_rates():
    scales = {group["group_name"]: group["lr_scale"] for group in groups(Segmentor(), backbone_small_lr=True)}
    assert scales["layer_9_decay"] == 1.0
    assert scales["layer_8_decay"] == pytest.approx(0.05)


def test_offset_rates_reach_attention_in_a_backbone_only():
    network = Segmentor()
    network.backbone.sampling_offsets = nn.Linear(4, 4)
    scales = {group["group_name"]: group for group in groups(network, offset_lr_scale=0.01)}
    group = scales["layer_9_no_decay_offset_lr_scale"]
    assert group["lr_scale"] == pytest.approx(0.01) and len(group["params"]) == 2
    assert scales["layer_9_no_decay"]["lr_scale"] == 1.0


@pytest.mark.parametrize(
    ("optimizer", "options", "message"),
    [
        ({}, dict(depths=[1, 2, 3]), r"num_layers 8 \(expected 6, the sum of depths\)"),
        ({}, dict(decay_rate=0.9), "paramwise_cfg: with decay_rate"),
        ({}, dict(layer_decay_rate=None), "paramwise_cfg: without layer_decay_rate"),
        (dict(lr=None), {}, "optimizer: lr or weight_decay is missing"),
    ],
)
def test_wrong_settings_are_named(optimizer, options, message):
    settings = {key: value for key, value in (OPTIONS | options).items() if value is not None}
    config = dict(optimizer=dict(type="AdamW", lr=1e-2, weight_decay=0.05) | optimizer)
    with pytest.raises(ValueError, match=message):
        LayerDecayOptimWrapperConstructor(config, settings)


def test_training_moves_late_layers_more():
    network = Segmentor()
    config = dict(optimizer=dict(type="SGD", lr=1.0, weight_decay=0.0))
    wrapper = LayerDecayOptimWrapperConstructor(config, OPTIONS)(network)
    first, last = network.backbone.patch_embed.conv1.weight, network.decode_head.conv_seg.weight
    before = [weight.detach().clone() for weight in (first, last)]
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    wrapper.step()
    assert torch.allclose(before[1] - last, torch.tensor(1.0))
    assert torch.allclose(before[0] - first, torch.tensor(0.5**9), atol=1e-6)


class Named(nn.Module):
    """Parameters of these names and numbers of dimensions, and nothing else."""

    def __init__(self, dimensions):
        super().__init__()
        for name, count in dimensions.items():
            *path, last = name.split(".")
            module = self
            for part in path:
                if part not in module._modules:
                    module.add_module(part, nn.Module())
                module = module.get_submodule(part)
            module.register_parameter(last, nn.Parameter(torch.zeros((1,) * count)))


@pytest.mark.parametrize("variant", ["t", "h"])
def test_groups_of_whole_networks_are_the_public_ones(variant):
    """InternImage-T with UperNet and InternImage-H with Mask2Former, against the groups of the public constructor."""
    stored = json.loads(gzip.decompress((GOLDEN / "layer_decay_groups.json.gz").read_bytes()))[variant]
    config = dict(optimizer=dict(type="AdamW", lr=1.0, weight_decay=0.05))
    found = LayerDecayOptimWrapperConstructor(config, stored["options"])(Named(stored["ndim"])).optimizer.param_groups
    assert {group["group_name"]: set(group["param_names"]) for group in found} == {
        name: set(group["names"]) for name, group in stored["groups"].items()
    }
    for group in found:
        expected = stored["groups"][group["group_name"]]
        assert group["lr_scale"] == group["lr"] == pytest.approx(expected["lr_scale"], rel=1e-12)
        assert group["weight_decay"] == expected["weight_decay"]
