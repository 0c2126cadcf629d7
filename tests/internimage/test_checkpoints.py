import pickle

import pytest
import torch
from torch import nn

from lib.errors import InputError
from lib.internimage import InternImage
from lib.internimage.checkpoints.loading import load_weights

TINY = dict(channels=8, depths=[1, 1, 1, 1], groups=[1, 2, 4, 8], mlp_ratio=1.0)


class Segmentor(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.backbone = InternImage(**TINY)
        self.decode_head = nn.Conv2d(64, classes, 1)


def marked(module: nn.Module, value: float) -> nn.Module:
    """The module with every weight set to ``value``."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(value)
    return module


def values(module: nn.Module) -> set[float]:
    return {value for parameter in module.parameters() for value in parameter.unique().tolist()}


def under(prefix: str, weights: dict) -> dict:
    return {prefix + name: tensor for name, tensor in weights.items()}


@pytest.fixture()
def backbone():
    return marked(InternImage(**TINY), 0.0)


@pytest.fixture()
def path(tmp_path):
    return tmp_path / "weights.pth"


WEIGHTS = marked(InternImage(**TINY), 2.0).state_dict()


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"state_dict": WEIGHTS, "meta": {"epoch": 3}},
        {"model": WEIGHTS, "max_accuracy": 83.5},
        under("module.", WEIGHTS),
        {"state_dict": under("backbone.", WEIGHTS)},
        {"state_dict": under("module.backbone.", WEIGHTS)},
    ],
    ids=["flat", "state_dict", "model", "module.", "backbone.", "module.backbone."],
)
def test_wrappings_are_taken_off(content, backbone, path):
    torch.save(content, path)
    report = load_weights(backbone, path)
    assert values(backbone) == {2.0}
    assert (report.loaded, report.left_out, report.untouched) == (len(WEIGHTS), {}, {})


def test_files_from_before_torch_1_6_are_read(backbone, path):
    torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False)
    load_weights(backbone, path)
    assert values(backbone) == {2.0}


def test_a_backbone_leaves_heads_behind_and_says_so(backbone, path):
    decode = {"decode_head.conv_seg.weight": torch.ones(2), "auxiliary_head.conv_seg.weight": torch.ones(2)}
    torch.save({"state_dict": under("backbone.", WEIGHTS) | decode}, path)
    assert tuple(load_weights(backbone, path).left_out) == tuple(decode)
    names = (
        "conv_head.0.weight",
        "head.bias",
        "clip_projector.norm1_q.0.weight",
        "fc_norm.0.bias",
        "dcnv3_head_x4.0.weight",
        "dcnv3_head_x3.bias",
    )
    torch.save({"model": WEIGHTS | {name: torch.ones(2) for name in names}}, path)
    assert tuple(load_weights(backbone, path).left_out) == names


def test_a_segmentor_takes_everything_or_nothing(path):
    segmentor = marked(Segmentor(), 0.0)
    torch.save(marked(Segmentor(), 2.0).state_dict(), path)
    assert load_weights(segmentor, path).loaded == len(WEIGHTS) + 2
    assert values(segmentor) == {2.0}
    torch.save(marked(Segmentor(classes=4), 3.0).state_dict(), path)
    message = (
        r"weights.pth: fits the network's backbone, but not its heads \(decode_head.weight is \(4, 64, 1, 1\) "
        r"in the file and \(3, 64, 1, 1\) in the network; of the network's \d+ weights 2 have"
    )
    with pytest.raises(InputError, match=message):
        load_weights(segmentor, path)
    assert values(segmentor) == {2.0}


def test_a_segmentor_may_start_from_a_backbone_when_allowed(path):
    segmentor = marked(Segmentor(), 0.0)
    torch.save({"model": WEIGHTS | {"head.bias": torch.ones(2)}}, path)
    report = load_weights(segmentor, path, allow_backbone=True)
    assert values(segmentor.backbone) == {2.0} and values(segmentor.decode_head) == {0.0}
    assert tuple(report.untouched) == ("decode_head.weight", "decode_head.bias")
    assert tuple(report.left_out) == ("head.bias",)
    torch.save(WEIGHTS, path)
    with pytest.raises(InputError, match="holds a backbone alone"):
        load_weights(segmentor, path)


def edited(**changes) -> dict:
    weights = {name: tensor for name, tensor in WEIGHTS.items() if changes.get("without") != name}
    return weights | changes.get("plus", {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            InternImage(**TINY | dict(channels=12)).state_dict(),
            r"looks like a checkpoint of another variant \(patch_embed.conv1.weight is \(6, 3, 3, 3\) in the file and "
            rf"\(4, 3, 3, 3\) in the network; of the network's {len(WEIGHTS)} weights \d+ have another shape and "
            r"0 are missing, and 0 of the file's are left over\)",
        ),
        (
            edited(without="levels.2.norm.0.bias"),
            r"another variant \(levels.2.norm.0.bias \(32,\) of the network is not in the file; .* 1 are missing",
        ),
        (
            edited(plus={"levels.0.blocks.0.gamma1": torch.ones(8)}),
            r"another variant \(levels.0.blocks.0.gamma1 \(8,\) has no place .* and 1 of the file's are left over",
        ),
        ({"layer1.weight": torch.ones(2)}, "is a checkpoint of another kind of network"),
        ({"epoch": 3}, r"holds no weights \('epoch' is of type int; expected names and tensors"),
        ({}, r"holds no weights \(it is empty"),
        (torch.ones(3), r"holds no weights \(it is of type Tensor"),
    ],
    ids=["variant", "missing", "extra", "other network", "no tensors", "empty", "tensor"],
)
def test_what_does_not_fit_is_named(content, message, backbone, path):
    torch.save(content, path)
    with pytest.raises(InputError, match=message) as caught:
        load_weights(backbone, path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert values(backbone) == {0.0}


def test_unreadable_files_are_one_sentence(backbone, path):
    torch.save(WEIGHTS, path)
    whole = path.read_bytes()
    torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False)
    legacy = path.read_bytes()
    contents = [whole[: len(whole) // 2], whole[:-1000], legacy[: len(legacy) // 2], b"", b"<html>404</html>"]
    contents += [pickle.dumps({"a": [1]}), b"\x80\x02.", bytes(1000)]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(InputError, match="cut short, or not a checkpoint|holds no weights") as caught:
            load_weights(backbone, path)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no such file"):
        load_weights(backbone, path.parent / "gone.pth")
    with pytest.raises(InputError, match="no such file"):
        load_weights(backbone, path.parent)


class Attack:
    """Deletes a file when unpickled."""

    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        import os

        return os.remove, (str(self.victim),)


@pytest.mark.parametrize("archive", [True, False])
def test_code_in_a_file_is_not_run(archive, backbone, path, tmp_path):
    victim = tmp_path / "victim"
    victim.touch()
    torch.save({"state_dict": WEIGHTS, "x": Attack(victim)}, path, _use_new_zipfile_serialization=archive)
    with pytest.raises(InputError, match=r"would run code \(it asks for posix.remove\)"):
        load_weights(backbone, path)
    assert victim.exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value, backbone, path):
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    broken = {name: tensor.clone() for name, tensor in WEIGHTS.items()}
    broken["patch_embed.conv1.bias"][0] = value
    torch.save(broken, path)
    with pytest.raises(
        InputError, match=r"1 of \d+ weights hold NaN or infinite values, such as patch_embed.conv1.bias"
    ):
        load_weights(backbone, path)
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.state_dict().items())


def test_mmengine_training_checkpoints_are_read(tmp_path, backbone):
    from mmengine.model import BaseModel
    from mmengine.runner import Runner

    class Model(BaseModel):
        def __init__(self):
            super().__init__()
            self.backbone = InternImage(**TINY)

        def forward(self, inputs, mode):
            return dict(loss=torch.stack(inputs).mean() * self.backbone.patch_embed.conv1.weight.sum())

    class Data(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return dict(inputs=torch.ones(1))

    runner = Runner(
        model=Model(),
        work_dir=str(tmp_path),
        train_dataloader=dict(dataset=Data(), batch_size=2, sampler=dict(type="InfiniteSampler")),
        train_cfg=dict(by_epoch=False, max_iters=2),
        optim_wrapper=dict(optimizer=dict(type="AdamW", lr=1e-3)),
        param_scheduler=dict(type="PolyLR", end=2, by_epoch=False),
        default_hooks=dict(checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=2)),
        custom_hooks=[dict(type="EMAHook")],
        experiment_name="test_checkpoints",
        log_level="ERROR",
    )
    runner.train()
    file = tmp_path / "iter_2.pth"
    with pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=True)
    report = load_weights(backbone, file)
    trained = runner.model.backbone
    assert report.loaded == len(WEIGHTS)
    assert torch.equal(backbone.patch_embed.conv2.weight, trained.patch_embed.conv2.weight)
    assert torch.equal(
        backbone.patch_embed.conv1.weight,
        torch.load(file, weights_only=False)["state_dict"]["backbone.patch_embed.conv1.weight"],
    )
