"""The export to ONNX: onnxruntime on the CPU gives what PyTorch gives, without private operators."""

import sys

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ops_dcnv3 import DCNv3, dcnv3
from ops_dcnv3.onnx import export
from tests.ops_dcnv3.builders import SAMPLES, setting, tensors

TINY = dict(channels=8, depths=[1, 1, 1, 1], groups=[1, 2, 4, 8], mlp_ratio=2.0)


@pytest.fixture
def runtime(tmp_path):
    """Export a module and return a function that runs the file."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")

    def start(module, example, opset=20, **options):
        path = tmp_path / "graph.onnx"
        assert export(module, example, path, opset=opset, **options) == path
        graph = onnx.load(path)
        assert [(used.domain, used.version) for used in graph.opset_import] == [("", opset)]
        assert not graph.functions and {node.domain for node in graph.graph.node} == {""}
        assert [file.name for file in tmp_path.iterdir()] == ["graph.onnx"]
        threads = onnxruntime.SessionOptions()
        threads.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, threads, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_inputs()]

        def run(*inputs):
            results = session.run(None, {name: t.numpy() for name, t in zip(names, inputs, strict=True)})
            return tuple(torch.from_numpy(result) for result in results)

        return run

    return start


class Call(nn.Module):
    def __init__(self, arguments):
        super().__init__()
        self.arguments = arguments

    def forward(self, input, offset, mask):
        return dcnv3(input, offset, mask, **self.arguments)


def varied(module, spread=0.1):
    """The module with every parameter moved, so that offsets and mask do something."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += torch.randn(parameter.shape, generator=random) * spread
    return module.eval()


def agree(module, run, *inputs):
    with torch.no_grad():
        expected = module(*inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    assert_close(run(*inputs), expected, rtol=0, atol=1e-4)


def test_a_later_opset(runtime):
    inputs = tensors((1, 5, 6, 4), setting(), dtype=torch.float64)
    module = Call(setting()).eval()
    agree(module, runtime(module, inputs, dynamic=(), opset=22), *inputs)


@pytest.mark.parametrize("name", SAMPLES)
def test_the_operator(name, runtime):
    arguments, spread = SAMPLES[name]
    inputs = tensors((2, 7, 9, 6), arguments, spread, dtype=torch.float32)
    module = Call(arguments).eval()
    agree(module, runtime(module, inputs, dynamic=()), *inputs)


@pytest.mark.parametrize("shape", [(1, 1, 1, 4), (1, 2, 1024, 2)], ids=["one pixel", "wide"])
def test_the_operator_on_other_sizes(shape, runtime):
    arguments = setting()
    inputs = tensors(shape, arguments, dtype=torch.float32)
    module = Call(arguments).eval()
    agree(module, runtime(module, inputs, dynamic=()), *inputs)


def test_the_operator_with_open_sizes(runtime):
    arguments = setting(stride=(2, 1), kernel_size=(3, 5), padding=(1, 2))
    module = Call(arguments).eval()
    run = runtime(module, tensors((2, 8, 9, 6), arguments, dtype=torch.float32), dynamic=(0, 1, 2))
    for size in ((2, 8, 9), (1, 5, 14), (3, 1, 1)):
        agree(module, run, *tensors((*size, 6), arguments, dtype=torch.float32))


def test_lost_locations_sample_zeros(runtime):
    input, offset, mask = tensors((1, 4, 5, 4), setting(), dtype=torch.float32)
    run = runtime(Call(setting()).eval(), (input, offset, mask), dynamic=())
    for lost in (1e30, -1e30, float("inf"), float("-inf"), float("nan")):
        assert not run(input, torch.full_like(offset, lost), mask)[0].any()


def test_half_precision_keeps_its_type(runtime):
    inputs = tensors((1, 5, 6, 4), setting(), dtype=torch.float16)
    module = Call(setting()).eval()
    out = runtime(module, inputs, dynamic=())(*inputs)[0]
    assert out.dtype == torch.float16
    assert_close(out, module(*inputs), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(
    "arguments",
    [
        dict(kernel_size=5, pad=2, dw_kernel_size=3, stride=2),
        dict(remove_center=True, center_feature_scale=True, norm_layer="BN", act_layer="SiLU", offset_scale=2.0),
    ],
)
def test_the_layer(arguments, runtime):
    layer = varied(DCNv3(channels=8, group=2, **arguments), 0.5)
    run = runtime(layer, torch.randn(1, 7, 6, 8), dynamic=(0, 1, 2))
    for size in ((1, 7, 6), (2, 9, 12)):
        agree(layer, run, torch.randn(*size, 8))


KINDS = {
    "post-norm": dict(layer_scale=1.0, post_norm=True, offset_scale=2.0),
    "huge": dict(
        dw_kernel_size=5,
        res_post_norm=True,
        center_feature_scale=True,
        level2_post_norm=True,
        level2_post_norm_block_ids=[0],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_network(kind, runtime):
    from lib.internimage import InternImage

    network = varied(InternImage(**TINY, **KINDS[kind]))
    run = runtime(network, torch.randn(1, 3, 48, 64), dynamic=(0,))
    for batch in (1, 3):
        agree(network, run, torch.randn(batch, 3, 48, 64))


@pytest.mark.slow
def test_the_network_with_open_sizes(runtime):
    from lib.internimage import InternImage

    network = varied(InternImage(**TINY))
    run = runtime(network, torch.randn(1, 3, 64, 96))
    for batch, height, width in ((1, 64, 96), (2, 37, 129), (1, 20, 31)):
        agree(network, run, torch.randn(batch, 3, height, width))


def test_what_is_missing_or_wrong_is_named(tmp_path, monkeypatch):
    layer, image = DCNv3(channels=8, group=2), torch.randn(1, 4, 4, 8)
    for package in ("onnx", "onnxscript"):
        with monkeypatch.context() as patch, pytest.raises(ImportError, match=f"^{package} .* pip install onnx"):
            patch.setitem(sys.modules, package, None)
            export(layer, image, tmp_path / "graph.onnx")
    pytest.importorskip("onnxscript")
    with pytest.raises(ValueError, match=r"opset: 18 \(expected at least 20\)"):
        export(layer.eval(), image, tmp_path / "graph.onnx", opset=18)
    with pytest.raises(ValueError, match="module: in training mode"):
        export(layer.train(), image, tmp_path / "graph.onnx")
    with pytest.raises(ValueError, match=r"module: 4295098368 bytes of weights \(expected at most"):
        export(nn.Linear(2**15, 2**15, device="meta").eval(), image, tmp_path / "graph.onnx")
    assert not list(tmp_path.iterdir())


def test_a_failed_export_leaves_the_folder_as_it_was(tmp_path):
    pytest.importorskip("onnxscript")
    (tmp_path / "graph.onnx").write_text("of before")
    with pytest.raises(Exception, match="(?i)export"):
        export(DCNv3(channels=8, group=2).eval(), torch.randn(1, 4, 4, 9), tmp_path / "graph.onnx", dynamic=())
    assert [file.read_text() for file in tmp_path.iterdir()] == ["of before"]
