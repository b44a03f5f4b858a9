"""A small encoder from a large one, without labels: what is asked, what learns, and that it can be started from and left frozen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from labelled_ground import QUICK as LEARN
from labelled_ground import write_ground

pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("timm")

import torch
from safetensors.torch import load, save_file

from geoseg.backbones.crossearth_sar import CrossEarthSar
from geoseg.errors import PackageError
from geoseg.recipes import masked_pretraining, supervised
from geoseg.recipes._settings import Settings as Supervised
from geoseg.recipes.distillation import Settings, run
from geoseg.recipes.distillation_module import Distillation
from geoseg.scene import Scene
from geoseg.scenes.open_scene import open_scene
from geoseg.settings import parse, read_yaml

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK: dict[str, Any] = {"depth": 1, "tile": 32, "patch": 8, "batch": 4, "draws": 16, "epochs": 2, "learning_rate": 1e-3}


def scene_of(folder: Path) -> Scene:
    return open_scene(folder / "scene.tif", sensor="sentinel-2-l1c", bands=["red", "nir"])


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    return write_ground(tmp_path)


@pytest.fixture
def dinov2(tmp_path: Path) -> Path:
    """Weights of a tiny DINOv2 with patches of 14, under its authors' names."""
    torch.manual_seed(2)
    dense = CrossEarthSar(3, size="tiny", experts=1, grid=5).state_dict()
    names = {name: name.replace("embed.", "patch_embed.proj.", 1) if name.startswith("embed") else name for name in dense}
    state = {names[name].replace("mlp.experts.0.", "mlp."): tensor for name, tensor in dense.items() if ".router." not in name}
    save_file(state, tmp_path / "dinov2.safetensors")
    return tmp_path / "dinov2.safetensors"


def test_a_student_of_dinov2_is_an_encoder_to_start_from_and_to_freeze(ground: Path, dinov2: Path) -> None:
    made = run(Settings(**QUICK, teacher=str(dinov2), teacher_size="tiny"), [scene_of(ground)], ground / "student", accelerator="cpu")
    assert (made.roles, made.training["method"], made.training["teacher"]) == (("red", "nir"), "gkd", "dinov2.safetensors")
    start = {"pretrained": str(made.path), "freeze": True, "epochs": 1, "bands": ["red", "nir"], "learning_rate": 0.01}
    kept = {key: value for key, value in LEARN.items() if key not in ("encoder", "network")}
    package = supervised.run(
        Supervised(**{**kept, **start}), [scene_of(ground)], [ground / "labels.tif"], ground / "model", accelerator="cpu"
    )
    before, after = load(made.weights), load(package.weights)
    assert all(torch.equal(after[f"network.encoder.{name}"], tensor) for name, tensor in before.items()), "the task changes no bit of it"
    loose = Supervised(**{**kept, **start, "freeze": False})
    after = load(supervised.run(loose, [scene_of(ground)], [ground / "labels.tif"], ground / "loose", accelerator="cpu").weights)
    assert not any(torch.equal(after[f"network.encoder.{name}"], tensor) for name, tensor in before.items()), "left free all of it learns"


def test_the_loss_falls_and_the_same_seed_is_the_same_student(ground: Path, dinov2: Path) -> None:
    wanted = Settings(**{**QUICK, "epochs": 6}, teacher=str(dinov2), teacher_size="tiny")
    students = [run(wanted, [scene_of(ground)], ground / name, accelerator="cpu") for name in ("one", "other")]
    assert students[0].weights == students[1].weights
    losses = json.loads(students[0].read("report.json"))["losses"]
    assert losses[-1] < 0.9 * losses[0]


def test_a_larger_encoder_teaches_and_a_student_goes_on(ground: Path) -> None:
    large = masked_pretraining.Settings(**{**QUICK, "epochs": 1}, size="small", method="mae")
    teacher = masked_pretraining.run(large, [scene_of(ground)], ground / "teacher", accelerator="cpu")
    wanted = Settings(**{**QUICK, "epochs": 1}, teacher=str(teacher.path))
    first = run(wanted, [scene_of(ground)], ground / "first", accelerator="cpu")
    module = Distillation(["red", "nir"], wanted.model_copy(update={"start": str(first.path)}))
    state = load(first.weights)
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.student.state_dict().items())
    with pytest.raises(PackageError, match="has depth 1, and the settings say 2"):
        Distillation(["red", "nir"], wanted.model_copy(update={"start": str(first.path), "depth": 2}))


def module_of(dinov2: Path) -> Distillation:
    torch.manual_seed(0)
    return Distillation(["red", "nir"], Settings(**QUICK, teacher=str(dinov2), teacher_size="tiny"))


def test_the_teacher_learns_nothing_and_is_in_no_checkpoint(dinov2: Path) -> None:
    module = module_of(dinov2)
    assert not any("aside" in name or "teacher" in name for name in module.state_dict())
    losses = module.compare(
        torch.randn(2, 2, 32, 32), torch.tensor([10.0, 10.0]), torch.ones(2, 16, dtype=torch.bool), torch.Generator().manual_seed(0)
    )
    losses.total.backward()
    (teacher,) = module._aside
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert module.student.embed.weight.grad.abs().max() > 0
    assert module.heads.token.proj_q.weight.grad.abs().max() == 0


def test_what_the_teacher_said_before_is_as_good_as_asking_it(dinov2: Path) -> None:
    module, image, sizes = module_of(dinov2), torch.randn(2, 2, 32, 32), torch.tensor([10.0, 10.0])
    has_data, told = torch.ones(2, 16, dtype=torch.bool), module.ask(image, sizes)
    losses = [
        module.compare(image, sizes, has_data, torch.Generator().manual_seed(0), answer).total.item()
        for answer in (None, told, told.flip(0))
    ]
    assert losses[0] == losses[1] != losses[2]


def test_without_queries_each_token_is_compared_at_its_place(dinov2: Path) -> None:
    queries = module_of(dinov2)
    plain = Distillation(["red", "nir"], queries.settings.model_copy(update={"queries": False}))
    student, teacher = torch.randn(1, 17, 192), torch.randn(1, 17, 192)
    assert torch.equal(plain.heads.feature(student, teacher), plain.heads.feature(student, teacher.flip(1)))
    asked = [queries.heads.feature(student, one) for one in (teacher, 2 * teacher)]
    assert not torch.allclose(*asked, atol=1e-3), "what is asked has a say in what is answered"
    image, sizes, has_data = torch.randn(2, 2, 32, 32), torch.tensor([10.0, 10.0]), torch.ones(2, 16, dtype=torch.bool)
    plain.compare(image, sizes, has_data, torch.Generator().manual_seed(0)).total.backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in plain.heads.parameters()), "no layer of it is idle"
    assert plain.student.embed.weight.grad.abs().max() > 0


def test_patches_without_data_say_nothing(dinov2: Path) -> None:
    module = module_of(dinov2).eval()
    image = torch.randn(2, 2, 32, 32, generator=torch.Generator().manual_seed(1))
    has_data = torch.ones(2, 16, dtype=torch.bool)
    has_data[:, :4] = False
    other = image.clone()
    other[:, :, :8] = 7.0
    heads = []
    for each in (image, other):
        told = torch.randn(2, 17, 192, generator=torch.Generator().manual_seed(3))
        plain = torch.cat([torch.zeros(2, 1, 192), module.student.encode(module.student.tokens(each), has_data)], dim=1)
        heads.append(module.heads(plain, plain, told, has_data))
    torch.testing.assert_close(heads[0].feature, heads[1].feature)
    torch.testing.assert_close(heads[0].patch, heads[1].patch)


def test_radar_is_shown_to_a_teacher_of_pictures_as_grey(dinov2: Path) -> None:
    module = Distillation(["vv", "vh"], Settings(**QUICK, teacher=str(dinov2), teacher_size="tiny"))
    (teacher,) = module._aside
    image = torch.randn(1, 2, 32, 32)
    changed = torch.stack([image[:, 0], image[:, 1] + 1], dim=1)
    sizes = torch.tensor([10.0])
    assert torch.equal(teacher(image, sizes), teacher(changed, sizes)), "the first band alone"
    assert not torch.equal(teacher(image, sizes), teacher(image + 1, sizes))


def test_shipped_settings_are_those_of_the_recipe() -> None:
    given = read_yaml(Path(__file__).parents[1] / "docs" / "settings" / "distillation.yaml")
    parse(Settings, {key: value for key, value in given.items() if key not in ("scenes", "out", "opening")}, source="shipped")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "teacher"),
        (("-s", "teacher=nowhere.pth"), "no such file: nowhere.pth"),
        (("-s", "teacher=scene.pth"), "cannot be read as tensors"),
        (("-s", "teacher=scene.tif"), "scene.tif"),
        (("-s", "teacher=nowhere.pth", "--labels", "labels.tif"), "learns from single scenes without labels"),
    ],
)
def test_teachers_that_do_not_fit_are_refused(
    geoseg, ground: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(ground)
    (ground / "scene.pth").write_bytes(b"PK nothing")
    opening = ("--sensor", "sentinel-2-l1c", "--bands", "red,nir")
    quick = [word for key, value in QUICK.items() for word in ("-s", f"{key}={value}")]
    ran = geoseg("train", "scene.tif", *opening, "--recipe", "distillation", "-o", "made", *quick, *words)
    assert (ran.code, says in ran.sentence) == (2, True), ran.err
    assert not (ground / "made").exists()
