"""Every runtime gives the same scores from any number of threads, and computes in the precision that was asked for or says why not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import packages
import pytest

from geoseg.errors import GeosegError, PackageError
from geoseg.models.package import ModelPackage, write_package
from geoseg.runtimes import precision as precisions
from geoseg.runtimes.open_runtime import open_runtime
from geoseg.runtimes.precision import processor_flags


@pytest.fixture(scope="module")
def unet(tmp_path_factory) -> ModelPackage:
    """A small U-Net with weights and graph, as training leaves it."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("segmentation_models_pytorch")
    from geoseg.models.export import export_onnx, save_weights
    from geoseg.models.segmenter import ScoredNetwork, build_network

    torch.manual_seed(0)
    small = {"encoder": "tu-resnet10t", "encoder_depth": 3, "decoder_channels": [8, 8, 8]}
    architecture = {"family": "smp.Unet", **small, "in_channels": 2, "classes": 3}
    package = packages.constant_package(tmp_path_factory.mktemp("net") / "plain", ["red", "nir"], 0, 3)
    network = build_network(architecture)
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):  # statistics as after training: folding must get them right
            part.running_mean.uniform_(-0.2, 0.2)
            part.running_var.uniform_(0.5, 2.0)
    description = package.model_copy(update={"architecture": architecture, "tile": 64, "stride": 32, "overlap": 0})
    graph = export_onnx(ScoredNetwork(network.eval(), package.outputs), 2)
    return write_package(tmp_path_factory.mktemp("net") / "unet", description, onnx=graph, weights=save_weights(network))


def tiles(count: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, 1, 2, 64, 64)).astype(np.float32)


@pytest.mark.parametrize("name", ["onnx", "openvino", "torch"])
def test_threads_that_call_at_once_get_the_very_scores_of_one(unet, name):
    pytest.importorskip({"onnx": "onnxruntime"}.get(name, name))
    images = tiles(6)
    alone = [open_runtime(unet, name)(image)["classes"] for image in images]
    shared = open_runtime(unet, name, calls=3)
    with ThreadPoolExecutor(3) as pool:
        together = [scores["classes"] for scores in pool.map(shared, images)]
    assert all((one == other).all() for one, other in zip(alone, together, strict=True))


@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_runtimes_agree_in_fp32(unet, name):
    pytest.importorskip(name)
    image = tiles(1)[0]
    expected, scores = open_runtime(unet)(image)["classes"], open_runtime(unet, name)(image)["classes"]
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def norms(network) -> int:
    torch = pytest.importorskip("torch")
    return sum(isinstance(part, torch.nn.BatchNorm2d) for part in network.modules())


def test_batch_normalisation_is_folded_into_convolutions(unet):
    from geoseg.models.segmenter import build_network

    assert norms(open_runtime(unet, "torch")._network) == 1 < norms(build_network(unet.architecture))  # that behind a stem of several


def test_a_network_that_computes_in_another_order_is_left_as_it_is():
    torch = pytest.importorskip("torch")
    from geoseg.runtimes.torch_runtime import folded

    class Backwards(torch.nn.Sequential):
        def forward(self, image):
            return {"classes": self[0](self[1](image))}

    network = Backwards(torch.nn.Conv2d(2, 2, 3), torch.nn.BatchNorm2d(2)).eval()
    network[1].running_mean.fill_(0.5)
    assert folded(torch, network, torch.ones(1, 2, 8, 8)) is network


def test_half_the_batch_is_taken_where_memory_does_not_suffice(unet, caplog):
    torch = pytest.importorskip("torch")
    runtime, images = open_runtime(unet, "torch"), tiles(7)[:, 0]
    expected, whole = runtime(images)["classes"], runtime._network

    def cramped(image):
        if len(image) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(image)

    runtime._network = cramped
    np.testing.assert_allclose(runtime(images)["classes"], expected, atol=1e-5)
    assert runtime.notes == (
        "the memory did not suffice for 7 tiles at once; 3 were taken instead",
        "the memory did not suffice for 3 tiles at once; 1 were taken instead",
    )
    assert len(caplog.records) == 2


def test_a_tile_that_does_not_fit_alone_is_said_so(unet):
    torch = pytest.importorskip("torch")
    runtime = open_runtime(unet, "torch")

    def full(image):
        raise torch.OutOfMemoryError("CUDA out of memory")

    runtime._network = full
    with pytest.raises(GeosegError, match="one tile of 64 pixels does not fit into the memory of the GPU"):
        runtime(tiles(1)[0])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--precision", "bf16"), "--runtime onnx does not compute in bf16"),
        (("--precision", "int8"), "has no int8 network, which `geoseg export model --int8` makes"),
        (("--precision", "int8", "--runtime", "torch"), "--runtime torch does not compute in int8"),
        (("--precision", "bf16", "--runtime", "openvino"), "this processor has no bf16 instructions"),
        (("--device", "cuda"), "--runtime onnx does not run on a GPU, --runtime torch does"),
        (("--runtime", "torch"), "has no weights.safetensors, which --runtime torch needs"),
    ],
)
def test_an_impossible_choice_is_refused_with_those_that_work(geoseg, place, monkeypatch, words, says):
    monkeypatch.setattr(precisions, "processor_has_bf16", lambda: False)
    ran = geoseg("predict", "scene.tif", "--sensor", "generic", "--model", "model", "-o", "out", *words)
    assert ran.code == 2
    assert says in ran.sentence
    assert "with this package and processor work (--runtime --precision): onnx fp32, openvino fp32" in ran.sentence
    assert not (place / "out").exists()


def test_bf16_is_allowed_where_the_processor_has_it(unet, monkeypatch):
    monkeypatch.setattr(precisions, "processor_has_bf16", lambda: True)
    precisions.check_precision(unet, "torch", "bf16", "cpu")
    monkeypatch.setattr(precisions, "processor_has_bf16", lambda: False)
    with pytest.raises(PackageError, match="no bf16 instructions"):
        precisions.check_precision(unet, "torch", "bf16", "cpu")
    precisions.check_precision(unet, "torch", "bf16", "cuda")


def test_bf16_scores_are_near_those_of_fp32(unet, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(precisions, "processor_has_bf16", lambda: True)  # slow here, but right
    image = tiles(1)[0]
    expected, scores = (open_runtime(unet, "torch", precision=one)(image)["classes"] for one in ("fp32", "bf16"))
    assert 0 < np.abs(scores - expected).max() < 0.05
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("processor : 0\nflags\t\t: fpu avx2 avx512_bf16 amx_bf16\n\n", {"fpu", "avx2", "avx512_bf16", "amx_bf16"}),
        ("processor : 0\nFeatures\t: fp asimd bf16\n", {"fp", "asimd", "bf16"}),
        ("processor : 0\n", set()),
    ],
)
def test_what_a_processor_can_do_is_read_as_linux_tells_it(tmp_path, monkeypatch, text, flags):
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(precisions.sys, "platform", "linux")
    monkeypatch.setattr(precisions, "Path", lambda _: tmp_path / "cpuinfo")
    assert processor_flags() == flags


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gpu_gives_the_scores_of_the_cpu(unet, precision):
    images = tiles(4)[:, 0]
    scores = open_runtime(unet, "torch", device="cuda", precision=precision)(images)["classes"]
    np.testing.assert_allclose(scores, open_runtime(unet, "torch")(images)["classes"], atol=1e-3 if precision == "fp32" else 0.05)
