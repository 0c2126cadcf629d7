"""Costs of networks against published numbers and real runs, and the zoo's table."""

import gzip
import importlib.util
import json
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lib import recipes
from lib.recipes import compose, costs
from lib.tools import zoo

GOLDEN = Path(__file__).parents[1] / "golden"
mask2former = pytest.mark.skipif(
    importlib.util.find_spec("mmdet") is None, reason="mmdetection is not installed (make mask2former)"
)

PUBLIC = {
    ("upernet", "t", "ade20k"): (512, 2048, 944),
    ("upernet", "s", "ade20k"): (512, 2048, 1017),
    ("upernet", "b", "ade20k"): (512, 2048, 1185),
    ("upernet", "l", "ade20k"): (640, 2560, 2526),
    ("upernet", "xl", "ade20k"): (640, 2560, 3142),
    ("upernet", "t", "cityscapes"): (1024, 2048, 1889),
    ("upernet", "l", "cityscapes"): (1024, 2048, 3234),
    ("segformer", "l", "cityscapes"): (1024, 2048, 1580),
    ("segformer", "xl", "cityscapes"): (1024, 2048, 2364),
}
"""Height, width and GFLOPs (multiply-adds) in the public tables."""


def measured(*parts: str) -> costs.Costs:
    return costs.measure(recipes.load(str(compose.parts(*parts))))


@pytest.mark.slow
@pytest.mark.parametrize("parts", PUBLIC, ids="-".join)
def test_multiply_adds_are_those_of_the_public_tables(parts):
    height, width, published = PUBLIC[parts]
    assert measured(*parts).multiply_adds((height, width)) / 1e9 == pytest.approx(published, rel=0.03)
    if parts[2] == "ade20k":
        assert zoo.published_size(compose.parts(*parts)) == (height, width)


@pytest.mark.slow
def test_parameters_are_those_of_the_published_backbone_and_the_heads():
    published = json.loads(gzip.decompress((GOLDEN / "internimage_state_dict_shapes.json.gz").read_bytes()))
    for variant in ("t", "l"):
        recipe = recipes.load(f"segformer_internimage_{variant}")
        width, channels = 256, recipe.model.backbone.channels
        maps = sum(channels * 2**i for i in range(4))
        head = maps * width + 4 * 2 * width + 4 * width * width + 2 * width + 13 * width + 13
        assert costs.measure(recipe).parameters == published[variant]["params"] + head


def test_lines_and_fakes_agree_with_a_real_run():
    """Multiply-adds and saved bytes of a size that was not measured, by a network with values."""
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    init_default_scope("mmseg")
    demo = recipes.load("demo")
    network, size = MODELS.build(demo.model.backbone), (128, 192)
    found = costs.measure(demo).backbone
    assert multiply_adds(network, torch.zeros(1, 3, *size)) == found.multiply_adds.at(128 * 192)
    pixels, image = 2 * 128 * 192, torch.zeros(2, 3, *size)
    assert saved_by(network.train(), image) == found.saved.at(pixels)
    frugal = MODELS.build(demo.model.backbone | dict(with_cp=True)).train()
    again = saved_by(network.levels[0].blocks[0], torch.zeros(2, 32, 48, 16, requires_grad=True))
    assert saved_by(frugal, image) + again == found.checkpointed.at(pixels)


@mask2former
def test_masks_are_counted_like_the_rest():
    """Their sizes are read from tensors, which fakes have not."""
    from mmseg.registry import MODELS

    recipe = recipes.load("demo_mask2former")
    found = costs.measure(recipe)
    head = MODELS.build(recipe.model.decode_head).eval()
    maps = [torch.zeros(1, 16 * 2**i, 128 >> i + 2, 192 >> i + 2) for i in range(4)]
    assert multiply_adds(lambda maps: head(maps, [None]), maps) == found.head.multiply_adds.at(128 * 192)


def multiply_adds(run, inputs) -> float:
    with FlopCounterMode(display=False, custom_mapping={torch.ops.ops_dcnv3.dcnv3: costs.dcnv3_flops}) as counter:
        run(inputs)
    return counter.get_total_flops() / 2


def saved_by(network, image) -> int:
    """Bytes of the distinct tensors that a forward pass in bfloat16 saves, besides the parameters."""
    kept = {parameter.untyped_storage().data_ptr(): None for parameter in network.parameters()}

    def keep(tensor):
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16), costs.LikeCuda():
        out = network(image)
    del out
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values() if tensor is not None)


def test_memory_grows_with_what_it_is_for():
    found, size = measured("segformer", "t", "competition"), (512, 1024)
    one, two = (found.training_bytes(size, batch) for batch in (1, 2))
    states = costs.STATE_BYTES * found.parameters
    assert states + costs.CONTEXT_BYTES < one < two < 2 * one
    assert found.training_bytes(size, 2, checkpointing=True) < two
    assert two - found.training_bytes(size, 2, devices=2) == states / 2


def test_the_table_lists_recipes_with_their_costs():
    lines = [*zoo.header(4).splitlines(), *map(zoo.row, zoo.entries(["t"], ["segformer"], batch=4))]
    assert lines[1].split()[-1] == "4"
    assert [line.split()[0] for line in lines[2:]] == [
        "segformer_internimage_t_512x1024_160k",
        "segformer_internimage_t_cityscapes_512x1024_160k",
        "segformer_internimage_t_ade20k_512x512_160k",
    ]
    entry = next(zoo.entries(["t"], ["segformer"], ["ade20k"], batch=4))
    work = f"{entry.multiply_adds / 1e9:.0f}, 512x2048"
    assert f"{entry.parameters / 1e6:.1f} {work} {entry.training_bytes / 2**30:.1f}," in " ".join(lines[-1].split())
