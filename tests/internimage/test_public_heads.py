"""Heads of public checkpoints: Mask2Former's names, classifiers of other classes, weights in part."""

import gzip
import json
import re

import pytest
import torch
from mmseg.utils import get_classes
from torch import nn

from lib.dataset.classes import CLASSES_WITH_BACKGROUND
from lib.errors import InputError
from lib.internimage.checkpoints import class_rows, formats
from lib.internimage.checkpoints.loading import load_weights
from tests.builders import GOLDEN
from tests.internimage.public_weights import Heads, Masks, masks, numbered, under


@pytest.fixture()
def path(tmp_path):
    return tmp_path / "weights.pth"


# Mask2Former


def todays_names() -> list[str]:
    """Parameters of mmdet 3's Mask2Former head, under ``decode_head.``."""
    stored = json.loads(gzip.decompress((GOLDEN / "layer_decay_groups.json.gz").read_bytes()))["h"]["ndim"]
    return [name for name in stored if name.startswith("decode_head.")]


def before(name: str) -> str:
    """A parameter's name as mmcv 1 numbered it."""
    number = {"self_attn": "0" if "pixel_decoder" in name else "1", "cross_attn": "0", "ffn": "0"}
    return re.sub(
        r"layers\.(\d+)\.(self_attn|cross_attn|ffn)\.",
        lambda m: f"layers.{m[1]}.{'ffns' if m[2] == 'ffn' else 'attentions'}.{number[m[2]]}.",
        name,
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            "pixel_decoder.encoder.layers.3.attentions.0.sampling_offsets.weight",
            "pixel_decoder.encoder.layers.3.self_attn.sampling_offsets.weight",
        ),
        ("pixel_decoder.encoder.layers.5.ffns.0.layers.0.0.bias", "pixel_decoder.encoder.layers.5.ffn.layers.0.0.bias"),
        ("pixel_decoder.encoder.layers.5.norms.1.bias", "pixel_decoder.encoder.layers.5.norms.1.bias"),
        (
            "transformer_decoder.layers.8.attentions.0.attn.in_proj_weight",
            "transformer_decoder.layers.8.cross_attn.attn.in_proj_weight",
        ),
        (
            "transformer_decoder.layers.0.attentions.1.attn.out_proj.bias",
            "transformer_decoder.layers.0.self_attn.attn.out_proj.bias",
        ),
        ("transformer_decoder.layers.0.ffns.0.layers.1.weight", "transformer_decoder.layers.0.ffn.layers.1.weight"),
        ("transformer_decoder.post_norm.weight", "transformer_decoder.post_norm.weight"),
        ("pixel_decoder.level_encoding.weight", "pixel_decoder.level_encoding.weight"),
    ],
)
def test_mask2formers_old_names_become_todays(old, new):
    assert formats.current_name(f"decode_head.{old}") == f"decode_head.{new}"
    assert formats.current_name(f"decode_head.{new}") == f"decode_head.{new}"


def test_every_name_of_mask2former_has_its_counterpart():
    names = todays_names()
    old = [before(name) for name in names]
    assert len(set(old)) == len(names) and sum(a != b for a, b in zip(old, names, strict=True)) == 6 * 12 + 9 * 12
    assert [formats.current_name(name) for name in old] == names


def test_the_names_are_those_of_mmdet():
    layers = pytest.importorskip("mmdet.models.layers", exc_type=ImportError)
    ffn = dict(embed_dims=8, feedforward_channels=16, num_fcs=2)
    attention = dict(embed_dims=8, num_heads=2, num_levels=3, num_points=4, batch_first=True)
    encoder = layers.Mask2FormerTransformerEncoder(num_layers=6, layer_cfg=dict(self_attn_cfg=attention, ffn_cfg=ffn))
    plain = dict(embed_dims=8, num_heads=2, batch_first=True)
    decoder = layers.Mask2FormerTransformerDecoder(
        num_layers=9,
        return_intermediate=True,
        layer_cfg=dict(self_attn_cfg=plain, cross_attn_cfg=dict(plain), ffn_cfg=ffn),
    )
    found = set(under("decode_head.pixel_decoder.encoder.", encoder.state_dict()))
    found |= set(under("decode_head.transformer_decoder.", decoder.state_dict()))
    assert found == {name for name in todays_names() if ".encoder." in name or ".transformer_decoder." in name}


def test_a_mask2former_checkpoint_is_loaded_whole(path):
    torch.save({"state_dict": masks(13)}, path)
    network = Masks(13)
    report = load_weights(network, path)
    assert (report.renamed, report.untouched) == (2, {})
    assert report.left_out == dict.fromkeys(
        ("decode_head.conv_seg.weight", "decode_head.conv_seg.bias"), "never used by Mask2Former"
    )
    assert not network.decode_head["transformer_decoder"]["layers"][0]["self_attn"].weight.any()


# Other classes


def rows_taken(path, classes, file_classes: int) -> dict[str, int | None]:
    """For each of our classes the file's row that its classifier has; ``None``: it kept its own."""
    torch.save({"state_dict": numbered(file_classes)}, path)
    network = Heads(len(CLASSES_WITH_BACKGROUND))
    for parameter in network.parameters():
        nn.init.constant_(parameter, -1.0)
    report = load_weights(network, path, classes=classes)
    tensors = [tensor for name, tensor in network.state_dict().items() if "conv_seg" in name]
    taken = [{tuple(tensor[i].unique().tolist()) for tensor in tensors} for i in range(len(CLASSES_WITH_BACKGROUND))]
    rows = [values.pop()[0] for values in taken if len(values) == 1]
    found = {name: None if row < 0 else int(row) for name, row in zip(CLASSES_WITH_BACKGROUND, rows, strict=True)}
    assert {name for name, origin in report.rows.items() if origin is None} == {
        n for n, r in found.items() if r is None
    }
    return found


def test_cityscapes_rows_carry_over(path):
    cityscapes = get_classes("cityscapes")
    expected = dict(
        Road="road",
        Sidewalk="sidewalk",
        Construction="building",
        Fence="fence",
        Pole="pole",
        Traffic_Light="traffic light",
        Traffic_Sign="traffic sign",
        Nature="vegetation",
        Sky="sky",
        Person="person",
        Rider="rider",
        Car="car",
    )
    rows = {name: cityscapes.index(theirs) for name, theirs in expected.items()} | {"Background": None}
    assert rows_taken(path, "cityscapes", 19) == rows
    assert rows_taken(path, "cityscapes", 150) == rows  # the public heads kept ADE20K's number of rows
    assert rows_taken(path, list(cityscapes), 19) == rows


def test_rows_of_other_data_sets_carry_over_where_names_correspond(path):
    ade = rows_taken(path, "ade20k", 150)
    names = get_classes("ade20k")
    assert ade["Nature"] == names.index("tree") and ade["Traffic_Sign"] == names.index("signboard")
    assert [name for name, row in ade.items() if row is None] == ["Rider", "Background"]
    mapillary = rows_taken(path, "mapillary", 66)
    names = get_classes("mapillary_v1")
    assert mapillary["Rider"] == names.index("Bicyclist") and mapillary["Background"] == names.index("Ego Vehicle")
    assert None not in mapillary.values()
    assert set(rows_taken(path, [], 7).values()) == {None}
    assert list(rows_taken(path, "competition", 13).values()) == list(range(13))


def test_no_object_stays_no_object(path):
    torch.save(masks(19), path)
    network = Masks(13)
    nn.init.constant_(network.decode_head["cls_embed"].bias, -1.0)
    load_weights(network, path, classes="cityscapes")
    bias = network.decode_head["cls_embed"].bias.tolist()
    assert bias[-1] == 19 and bias[-2] == -1 and bias[:2] == [0, 1]


def test_other_classes_are_refused_unless_said(path):
    torch.save({"state_dict": numbered(19)}, path)
    network = Heads(13)
    stood = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    message = (
        r"fits but for its number of classes \(decode_head.conv_seg.weight has 19 rows in the file and 13 in the "
        r"network\)"
        r".*load_from {checkpoint: weights.pth, classes: cityscapes}"
    )
    for options, expected in (
        ({}, message),
        (dict(classes="ade20k"), "150 names for a classifier of 19 rows"),
        (
            dict(classes="nosuch"),
            "classes: 'nosuch' .expected one of ade20k, cityscapes, competition, mapillary, a list",
        ),
    ):
        with pytest.raises(InputError, match=expected):
            load_weights(network, path, **options)
    with pytest.raises(InputError, match="no names are known for a network of 14 classes"):
        load_weights(Heads(14), path, classes="cityscapes")
    assert all(torch.equal(tensor, stood[name]) for name, tensor in network.state_dict().items())
    assert class_rows.match(("road", "rider"), get_classes("mapillary_v1")) == [13, 20]


# In part


def test_parts_are_loaded_only_when_asked_for(path):
    weights = numbered(19)
    del weights["backbone.levels.1.norm.0.weight"]
    weights["decode_head.extra.weight"] = torch.ones(3)
    torch.save(weights, path)
    network = Heads(13)
    with pytest.raises(InputError, match="1 are missing, and 1 of the file's are left over"):
        load_weights(network, path, classes="cityscapes")
    report = load_weights(network, path, partial=True)
    assert report.left_out["decode_head.extra.weight"] == "no such weight in the network"
    assert report.left_out["decode_head.conv_seg.bias"] == "another shape than the network's"
    assert report.untouched["backbone.levels.1.norm.0.weight"] == "missing in the file"
    assert report.loaded == len(network.state_dict()) - 5
    torch.save({"layer1.weight": torch.ones(2)}, path)
    with pytest.raises(InputError, match="another kind of network"):
        load_weights(network, path, partial=True)


def test_the_report_reads_as_text(path):
    torch.save({"state_dict": masks(19)}, path)
    text = str(load_weights(Masks(13), path, classes="cityscapes"))
    assert re.search(
        r"weights.pth under 'state_dict': \d+ weights loaded, 2 of them renamed from older frameworks", text
    )
    assert "left out: 2 (never used by Mask2Former), decode_head.conv_seg.weight …" in text
    assert "Construction from building" in text and "starting anew: Background" in text
