import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch.testing import assert_close

from lib.internimage import InternImage
from lib.internimage.variants import VARIANTS
from tests.builders import GOLDEN, published

LARGER = Path(__file__).parents[3] / "shared" / "golden"
TINY = dict(channels=8, depths=[1, 1, 1, 1], groups=[1, 2, 4, 8], mlp_ratio=2.0)


@pytest.fixture(autouse=True)
def mmseg_scope():
    """Other tests may have left another registry scope behind."""
    init_default_scope("mmseg")


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_have_the_published_names_and_shapes(name):
    expected = published()[name]
    with torch.device("meta"):
        network = MODELS.build(dict(type="InternImage", **VARIANTS[name]))
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == expected["shapes"]
    assert sum(parameter.numel() for parameter in network.parameters()) == expected["params"]


def test_variants_have_the_published_arguments():
    defaults = dict(mlp_ratio=4.0, layer_scale=None, offset_scale=1.0, post_norm=False)
    for name, entry in published().items():
        ours = {key: list(v) if isinstance(v, tuple) else v for key, v in VARIANTS[name].items()}
        ours.pop("drop_path_rate")
        assert defaults | ours == defaults | entry["args"]


KINDS = ["plain", "postnorm", "huge", "giant"]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-6)])
@pytest.mark.parametrize("kind", KINDS)
def test_parity_with_the_public_network(kind, dtype, tolerance):
    compare(np.load(GOLDEN / f"backbone_{kind}.npz"), dtype, tolerance)


@pytest.mark.skipif(not LARGER.is_dir(), reason="needs the larger reference values, which are not part of the project")
@pytest.mark.parametrize("kind", KINDS)
def test_parity_with_larger_public_networks(kind):
    # The values of "postnorm" were computed in float32, which by itself moves that network's results by 3e-4.
    compare(np.load(LARGER / f"backbone_{kind}.npz"), torch.float32, 1e-3 if kind == "postnorm" else 1e-4)


def compare(stored, dtype, tolerance):
    """Maps and gradients of the stored network against the stored values, relative to the largest of each."""
    network = InternImage(drop_path_rate=0.0, **json.loads(str(stored["config"]))).to(dtype)
    weights = {name[3:]: torch.from_numpy(stored[name]) for name in stored if name.startswith("sd/")}
    network.load_state_dict(weights)
    image = torch.from_numpy(stored["input"]).to(dtype).requires_grad_()
    maps = network(image)
    sum((out * torch.from_numpy(stored[f"w{i}"])).sum() for i, out in enumerate(maps)).backward()

    def close(value, name):
        expected = torch.from_numpy(stored[name]).to(dtype)
        bound = tolerance * expected.abs().max().item()
        assert_close(value, expected, rtol=0, atol=bound, msg=lambda text: f"{name}: {text}")

    for i, out in enumerate(maps):
        close(out.detach(), f"out{i}")
    close(image.grad, "grad_input")
    for name, parameter in network.named_parameters():
        if (key := f"grad/{name}") in stored:
            gradient, size = parameter.grad.flatten(), stored[key].size
            # A file keeps a gradient whole or, in a flat array, every k-th element of it.
            kept = gradient if size == len(gradient) else gradient[:: max(1, len(gradient) // 128)]
            close(kept.reshape(stored[key].shape), key)


def test_maps_have_the_promised_sizes():
    network = InternImage(**TINY, out_indices=(1, 3))
    maps = network(torch.zeros(2, 3, 50, 70))
    assert isinstance(maps, tuple)
    assert [tuple(m.shape) for m in maps] == [(2, 16, 7, 9), (2, 64, 2, 3)]
    assert all(m.is_contiguous() for m in maps)


def test_recomputing_changes_no_gradient():
    stored = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        network = InternImage(**TINY, with_cp=with_cp, drop_path_rate=0.5).train()
        torch.manual_seed(1)
        network(torch.randn(2, 3, 32, 32))[-1].square().sum().backward()
        stored.append([p.grad for p in network.parameters() if p.grad is not None])
    assert_close(*stored)


@pytest.mark.parametrize("stages", [-1, 0, 2, 4])
def test_frozen_stages_stay_frozen(stages):
    network = InternImage(**TINY, frozen_stages=stages, drop_path_rate=0.5, norm_layer="BN")
    assert network.train() is network
    parts = [network.patch_embed, *network.levels]
    for part in parts[: stages + 1]:
        assert not any(module.training for module in part.modules())
        assert not any(parameter.requires_grad for parameter in part.parameters())
    for part in parts[stages + 1 :]:
        assert all(module.training for module in part.modules())
        assert all(parameter.requires_grad for parameter in part.parameters())
    if stages < 4:
        network(torch.randn(2, 3, 32, 32))[-1].sum().backward()
        assert all((p.grad is None) == (not p.requires_grad) for p in network.parameters())


def test_drop_path_rises_with_depth():
    def rates(**arguments):
        return [block.drop_path.drop_prob for level in InternImage(**TINY | arguments).levels for block in level.blocks]

    assert rates(drop_path_rate=0.3) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert rates(drop_path_rate=0.3, drop_path_type="uniform") == [0.3] * 4
    assert rates(depths=[1], groups=[1], out_indices=(0,), drop_path_rate=0.3) == [0]


def test_a_new_network_samples_without_offsets():
    network = InternImage(**TINY)
    network.init_weights()
    dcn = network.levels[0].blocks[0].dcn
    assert not dcn.offset.weight.any() and not dcn.mask.weight.any()
    assert network.levels[0].blocks[0].mlp.fc1.weight.std() < 0.03


def test_a_segmentor_starts_its_backbone_from_a_checkpoint(tmp_path):
    torch.save({"model": InternImage(**TINY, layer_scale=0.5).state_dict()}, tmp_path / "start.pth")
    start = dict(type="Pretrained", checkpoint=str(tmp_path / "start.pth"))
    segmentor = MODELS.build(
        dict(
            type="EncoderDecoder",
            backbone=dict(type="InternImage", **TINY, layer_scale=1.0, init_cfg=start),
            decode_head=dict(
                type="FCNHead", in_channels=64, in_index=3, channels=64, num_convs=0, concat_input=False, num_classes=3
            ),
        )
    )
    segmentor.init_weights()
    assert (segmentor.backbone.levels[2].blocks[0].gamma1 == 0.5).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(core_op="DCNv4"), "core_op: 'DCNv4'"),
        (dict(groups=[1, 2, 4]), r"groups: \[1, 2, 4\] \(expected one for each of the 4 stages\)"),
        (dict(out_indices=(4,)), r"out_indices: \(4,\) \(expected 0 to 3\)"),
        (dict(frozen_stages=5), "frozen_stages: 5"),
        (dict(drop_path_type="cosine"), "drop_path_type: 'cosine'"),
        (dict(res_post_norm=True, post_norm=True), "res_post_norm: True"),
        (dict(level2_post_norm=True, level2_post_norm_block_ids=[1]), r"level2_post_norm_block_ids: \[1\]"),
        (dict(init_cfg=dict(type="Kaiming")), "init_cfg: {'type': 'Kaiming'}"),
    ],
)
def test_contradictory_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        InternImage(**TINY | arguments)
