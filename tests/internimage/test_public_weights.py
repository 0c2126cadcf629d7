"""Synthetic checkpoints with the names, shapes and wrappings of the public release, for every variant."""

import gzip
import json
import re
from pathlib import Path

import pytest
import torch
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from mmseg.utils import get_classes
from torch import nn

from lib.dataset.classes import CLASSES_WITH_BACKGROUND
from lib.errors import InputError
from lib.internimage import InternImage
from lib.internimage.checkpoints import class_rows, formats
from lib.internimage.checkpoints.loading import check_weights, load_weights, parse_load_from
from lib.internimage.variants import VARIANTS
from lib.tools.convert import convert
from tests.builders import published

GOLDEN = Path(__file__).parents[1] / "golden"
TINY = dict(channels=8, depths=[1, 1, 1, 1], groups=[1, 2, 4, 8], mlp_ratio=1.0)
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


def thin(shapes: dict) -> dict[str, torch.Tensor]:
    """Tensors of these shapes that take no room in a file: one number each, stretched."""
    return {name: torch.full((), 0.5).expand(shape) for name, shape in shapes.items()}


def under(prefix: str, weights: dict) -> dict:
    return {prefix + name: tensor for name, tensor in weights.items()}


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


class Masks(nn.Module):
    """A backbone and two layers of a Mask2Former head by their names of today."""

    def __init__(self, classes: int):
        super().__init__()
        self.backbone = InternImage(**TINY)
        self.decode_head = nn.ModuleDict(dict(cls_embed=nn.Linear(4, classes + 1)))
        attention = nn.ModuleDict(dict(self_attn=nn.Linear(4, 4)))
        self.decode_head["transformer_decoder"] = nn.ModuleDict(dict(layers=nn.ModuleList([attention])))


def masks(classes: int) -> dict[str, torch.Tensor]:
    """Its weights as mmdet 2 named them, with the layer that such checkpoints have and never used."""
    weights = {name: torch.zeros_like(tensor) for name, tensor in Masks(classes).state_dict().items()}
    weights = {name.replace(".self_attn.", ".attentions.1."): tensor for name, tensor in weights.items()}
    weights["decode_head.cls_embed.bias"] = torch.arange(classes + 1.0)
    return weights | thin({"decode_head.conv_seg.weight": (classes, 4, 1, 1), "decode_head.conv_seg.bias": (classes,)})


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


class Heads(nn.Module):
    """A backbone and the classifiers of a decode and an auxiliary head."""

    def __init__(self, classes: int):
        super().__init__()
        self.backbone = InternImage(**TINY)
        self.decode_head = nn.ModuleDict(dict(conv_seg=nn.Conv2d(4, classes, 1)))
        self.auxiliary_head = nn.ModuleDict(dict(conv_seg=nn.Conv2d(2, classes, 1)))


def numbered(classes: int) -> dict[str, torch.Tensor]:
    """Weights whose classifiers hold the number of the row."""
    weights = Heads(classes).state_dict()
    for name in weights:
        if "conv_seg" in name:
            rows = torch.arange(float(classes)).reshape(-1, *[1] * (weights[name].ndim - 1))
            weights[name] = rows.expand(weights[name].shape).clone()
    return weights


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


def test_how_users_write_load_from():
    assert parse_load_from("a.pth") == parse_load_from(Path("a.pth")) == ("a.pth", {})
    assert parse_load_from({"checkpoint": "a.pth", "classes": []}) == ("a.pth", {"classes": []})
    for wrong, fault in (({"classes": []}, "no checkpoint"), ({"checkpoint": "a", "class": 1}, "'class'")):
        with pytest.raises(InputError, match=f"load_from: {fault} .*checkpoint, classes, ema, partial"):
            parse_load_from(wrong)


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
