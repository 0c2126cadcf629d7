"""The classifier: public names and sizes, its pre-processing, and the accuracy on a folder of images."""

from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal

import numpy as np
import pytest
import torch
from PIL import Image

from lib.errors import InputError
from lib.internimage.variants import VARIANTS
from lib.tools import imagenet
from lib.tools.imagenet import InternImageClassifier, build, evaluate, from_checkpoint, measure, prepare
from tests.builders import published

TINY = dict(channels=8, depths=[1, 1, 1, 1], groups=[1, 2, 4, 8], mlp_ratio=1.0)
MILLIONS = {"t": "30", "s": "50", "b": "97", "l": "223", "xl": "335", "h": "1.08e3", "g": "3e3"}
"""Parameters in the public tables, with the classifier of 1,000 classes. H has 1,089.6: its 1.08 billion were cut."""

POOLED = {
    "conv_head.0.weight": (12, 8, 1, 1),
    "conv_head.1.0.weight": (12,),
    "conv_head.1.0.bias": (12,),
    "conv_head.1.0.running_mean": (12,),
    "conv_head.1.0.running_var": (12,),
    "conv_head.1.0.num_batches_tracked": (),
    "head.weight": (1000, 12),
    "head.bias": (1000,),
}
"""Names and shapes on top of a backbone that ends in 8 channels."""

ATTENDED = {
    "dcnv3_head_x4.0.weight": (4096, 64, 1, 1),
    "dcnv3_head_x4.0.bias": (4096,),
    "dcnv3_head_x3.weight": (1024, 32, 1, 1),
    "dcnv3_head_x3.bias": (1024,),
    **{f"clip_projector.norm1_{x}.0.{kind}": (1024,) for x in "qkv" for kind in ("weight", "bias")},
    **{f"clip_projector.cross_dcn.{x}.weight": (1024, 1024) for x in "qkv"},
    **{f"clip_projector.cross_dcn.{x}_bias": (1024,) for x in "qkv"},
    "clip_projector.cross_dcn.proj.weight": (768, 1024),
    "clip_projector.cross_dcn.proj.bias": (768,),
    "fc_norm.0.weight": (768,),
    "fc_norm.0.bias": (768,),
    "head.weight": (1000, 768),
    "head.bias": (1000,),
}
"""Names and shapes on top of a backbone of 8 channels (64 at its end)."""


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_agree_with_the_public_table(variant):
    with torch.device("meta"):
        network = build(variant)
    total = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    rounding = {"h": ROUND_DOWN}.get(variant, ROUND_HALF_UP)
    shown, exact = Decimal(MILLIONS[variant]), Decimal(total)
    assert exact.quantize(Decimal((0, (1,), shown.as_tuple().exponent)), rounding) == shown
    names = {key: list(value.shape) for key, value in network.state_dict().items()}
    backbone = published()[variant]["shapes"]
    if variant == "t":
        backbone = {name: shape for name, shape in backbone.items() if ".gamma" not in name}
    assert backbone.items() <= names.items()


@pytest.mark.parametrize("attended", [False, True])
def test_the_classifiers_names_are_the_public_ones(attended):
    network = InternImageClassifier(
        **TINY | ({} if attended else dict(channels=1, groups=[1] * 4)), use_clip_projector=attended
    )
    top = {k: tuple(v.shape) for k, v in network.state_dict().items() if not k.startswith(("patch_embed.", "levels."))}
    assert top == (ATTENDED if attended else POOLED)


def test_attention_pooling_is_the_textbook_formula():
    torch.manual_seed(0)
    pool = imagenet.AttentionPooling(6, 2, 5, "LN").double()
    for parameter in pool.parameters():
        torch.nn.init.normal_(parameter)
    tokens, cross = torch.randn(3, 7, 6).double(), pool.cross_dcn
    query = pool.norm1_q(tokens.mean(1))
    heads = []
    for half in (slice(0, 3), slice(3, 6)):
        q = (query @ cross.q.weight.T + cross.q_bias)[:, half]
        k = (pool.norm1_k(tokens) @ cross.k.weight.T + cross.k_bias)[..., half]
        v = (pool.norm1_v(tokens) @ cross.v.weight.T + cross.v_bias)[..., half]
        share = torch.softmax(torch.einsum("nc,nkc->nk", q, k) / 3**0.5, 1)
        heads.append(torch.einsum("nk,nkc->nc", share, v))
    torch.testing.assert_close(pool(tokens), cross.proj(torch.cat(heads, 1)))


PUBLIC_SCORES = {
    False: [[-2.0783554, 1.4158227, 0.3239085, -2.1248967], [-2.0063245, 1.3746519, 0.2989346, -2.0551815]],
    True: [[-13.4031275, -4.3097994, 12.3909246, 8.4101876], [-13.3861692, -4.3082884, 12.3744303, 8.4036121]],
}
"""Of the public implementation (OpenGVLab/InternImage, commit 31c962d), in float64, for weights and images below."""


@pytest.mark.parametrize("attended", [False, True])
def test_scores_are_the_public_ones(attended):
    network = (
        InternImageClassifier(num_classes=4, use_clip_projector=attended, drop_path_rate=0.0, **TINY).double().eval()
    )
    for i, (name, parameter) in enumerate(sorted(network.named_parameters())):
        values = 0.2 * torch.sin(0.37 * torch.arange(parameter.numel(), dtype=torch.float64) + i)
        norm = parameter.ndim == 1 and name.endswith("weight")
        parameter.data.copy_((values + 2 * norm).reshape(parameter.shape))
    images = torch.sin((torch.arange(2 * 3 * 64 * 64, dtype=torch.float64) / 300) ** 3).reshape(2, 3, 64, 64)
    with torch.no_grad():
        found = network(images)
    # The public sampling locations are float32.
    torch.testing.assert_close(found, torch.tensor(PUBLIC_SCORES[attended], dtype=torch.float64), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("attended", [False, True])
def test_scores_depend_on_the_image_and_gradients_reach_everything(attended):
    torch.manual_seed(0)
    network = InternImageClassifier(num_classes=5, use_clip_projector=attended, drop_path_rate=0.0, **TINY).train()
    scores = network(torch.randn(2, 3, 96, 100))  # the maps of 100 pixels are 7 and 4 wide
    assert scores.shape == (2, 5) and not torch.allclose(scores[0], scores[1])
    scores.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_images_are_resized_and_cut_as_in_public():
    """Against the numbers of torchvision's Resize(4, bicubic), CenterCrop(4) on this image, which are Pillow's."""
    rows = np.add.outer(np.arange(8) * 10, np.arange(14) * 5).astype(np.uint8)
    image = Image.fromarray(np.repeat(rows[..., None], 3, 2))
    whole = np.asarray(image.resize((7, 4), Image.Resampling.BICUBIC), np.float32)
    found = prepare(image, 4)
    assert found.shape == (3, 4, 4) and found.dtype == torch.float32
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = (whole[:, 2:6] / 255 - mean) / std  # (7 - 4) / 2 = 1.5 rounds to the even 2
    np.testing.assert_allclose(found.permute(1, 2, 0), expected, atol=1e-6)
    assert prepare(Image.new("L", (30, 20)), 4).shape == (3, 4, 4)


@pytest.fixture()
def pictures(tmp_path):
    """Three classes of plain images: red, green, blue; four each, of different sizes."""
    for name, colour in (("a_red", (200, 0, 0)), ("b_green", (0, 200, 0)), ("c_blue", (0, 0, 200))):
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.new("RGB", (20 + i, 30), colour).save(tmp_path / name / f"{i}.png")
    return tmp_path


class Reddest(torch.nn.Module):
    """Scores of three classes: how red, green and blue an image is."""

    def forward(self, images):
        return images.mean((2, 3))


def test_accuracy_counts_what_is_right(pictures):
    accuracy = measure(Reddest(), pictures, size=16, num_classes=3, batch_size=5, device="cpu")
    assert (accuracy.right, accuracy.images, accuracy.top1) == (12, 12, 1.0)
    (pictures / "a_red").rename(pictures / "d_red")  # now the third class
    assert measure(Reddest(), pictures, size=16, num_classes=3, device="cpu").right == 0
    Image.new("RGB", (20, 20), (0, 200, 0)).save(pictures / "b_green" / "more.png")
    (pictures / "d_red").rename(pictures / "a_red")
    Image.new("RGB", (20, 20), (0, 200, 0)).save(pictures / "a_red" / "wrong.png")
    assert measure(Reddest(), pictures, size=16, num_classes=3, device="cpu").top1 == 13 / 14


def test_folders_and_pictures_that_do_not_do_are_named(pictures):
    with pytest.raises(InputError, match="3 sub-folders, and the network knows 1000 classes"):
        measure(Reddest(), pictures, size=16, num_classes=1000)
    (pictures / "b_green" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(InputError, match=r"2\.png: not a readable image") as refusal:
        measure(Reddest(), pictures, size=16, num_classes=3)
    assert "\n" not in str(refusal.value)
    with pytest.raises(InputError, match="no images"):
        measure(Reddest(), pictures / "a_red", size=16, num_classes=3)


def small(variant: str, classes: int) -> dict[str, torch.Tensor]:
    """Random weights of a published classifier, of its first stage's width but one block per stage."""
    changes = dict(depths=[1, 1, 1, 1], level2_post_norm=False)
    return build(variant, classes, **changes).state_dict()


def test_a_checkpoint_is_evaluated(pictures, tmp_path, monkeypatch):
    monkeypatch.setitem(VARIANTS, "s", VARIANTS["s"] | dict(depths=(1, 1, 1, 1)))
    torch.manual_seed(0)
    weights = small("s", 3)
    weights["head.weight"].zero_()
    weights["head.bias"].copy_(torch.tensor([0.0, 1.0, 0.0]))  # always says green
    file = tmp_path / "internimage_s_1k_64.pth"
    torch.save({"model": weights, "max_accuracy": 84.2}, file)
    (tmp_path / "images").mkdir()
    for folder in ("a_red", "b_green", "c_blue"):
        (pictures / folder).rename(tmp_path / "images" / folder)
    accuracy = evaluate(file, tmp_path / "images", size=32, device="cpu")
    assert str(accuracy) == "top-1 accuracy 0.333 (4 of 12 images, 32 pixels)"
    torch.save({"model": small("s", 1000)}, file)
    with pytest.raises(InputError, match="3 sub-folders, and the network knows 1000 classes"):
        evaluate(file, tmp_path / "images", size=32, device="cpu")
    with pytest.raises(InputError, match="no images"):
        evaluate("internimage_t_1k_224", tmp_path / "nowhere")  # refused before the download


@pytest.mark.parametrize(
    ("name", "size"),
    [("internimage_s_22k_192to384", 384), ("internimage_s_1k_256-0a1b2c3d", 256), ("mine", 224)],
)
def test_the_size_is_in_the_name(name, size, tmp_path, monkeypatch):
    monkeypatch.setitem(VARIANTS, "s", VARIANTS["s"] | dict(depths=(1, 1, 1, 1)))
    torch.save({"model": small("s", 3)}, tmp_path / "weights")
    monkeypatch.setattr(imagenet, "fetch", lambda source: source)
    (tmp_path / "weights").rename(tmp_path / f"{name}.pth")
    network, found = None, None
    with monkeypatch.context() as patch:  # its name's hash is made up
        patch.setattr("lib.internimage.checkpoints.loading.fetch", lambda source: source)
        network, found = from_checkpoint(tmp_path / f"{name}.pth")
    assert found == size and not network.training and network.head.out_features == 3


def test_files_without_a_classifier_are_refused(tmp_path):
    weights = small("s", 3)
    torch.save({"model": {k: v for k, v in weights.items() if not k.startswith("head.")}}, tmp_path / "a.pth")
    with pytest.raises(InputError, match="no InternImage with a classifier"):
        from_checkpoint(tmp_path / "a.pth")
    torch.save({"model": InternImageClassifier(3, **TINY).state_dict()}, tmp_path / "b.pth")
    with pytest.raises(InputError, match="an InternImage of 8 channels"):
        from_checkpoint(tmp_path / "b.pth")
    torch.save({"model": weights}, tmp_path / "c.pth")
    with pytest.raises(InputError, match="looks like a checkpoint of another variant"):
        from_checkpoint(tmp_path / "c.pth")
