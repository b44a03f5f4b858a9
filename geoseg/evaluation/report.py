"""An evaluation as files: all figures as JSON, the matrix as CSV, and one HTML page that needs nothing else and no network."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from geoseg.confusion import Confusion
from geoseg.evaluation.boundaries import Boundaries
from geoseg.evaluation.evaluate import Evaluation
from geoseg.evaluation.picture import ErrorPicture
from geoseg.io.page_style import PAGE_STYLE
from geoseg.io.staging import Staging, check_free, move_results
from geoseg.legend import Legend
from geoseg.models.calibration import Calibration
from geoseg.polygons.objects import LEAST_IOU, ObjectScore

NAMES = {"figures": "report.json", "matrix": "confusion.csv", "page": "report.html"}
_PICTURES = 12
"""Maps whose errors are shown, at most."""
_MEASURES = {
    "iou": "IoU",
    "f1": "F1",
    "precision": "precision (user's accuracy)",
    "recall": "recall (producer's accuracy)",
    "pixels": "labelled pixels",
}
_STYLE = f"""{PAGE_STYLE}
body {{ margin: 2rem auto; max-width: 62rem; padding: 0 1rem; }} h2 {{ margin-top: 2rem; }}
.bar {{ display: inline-block; width: 6em; text-align: left; margin-left: .5em; }}
.bar i {{ display: inline-block; height: .7em; background: var(--blue); }}
figure {{ display: inline-block; margin: 0 1rem 1rem 0; vertical-align: top; }}
figure img {{ max-width: 100%; border: 1px solid var(--line); image-rendering: pixelated; }}
svg text {{ fill: var(--ink); font-size: 12px; }}
"""


def write_report(out: Path, made: Evaluation, *, overwrite: bool = False) -> dict[str, Path]:
    """Write the three files into the folder `out`, all or none; returns where they are.

    Raises OutputError where they cannot be written, with InputError's exit code where they are there already.
    """
    check_free(out, NAMES.values(), overwrite=overwrite)
    with Staging(out) as work:
        done = work / "done"
        facts = json.dumps(made.facts(), indent=2, ensure_ascii=False, allow_nan=False)
        (done / NAMES["figures"]).write_text(facts + "\n", encoding="utf-8")
        (done / NAMES["matrix"]).write_text(matrix_csv(made.confusion), encoding="utf-8")
        (done / NAMES["page"]).write_text(page(made), encoding="utf-8")
        move_results(done, out, last=NAMES["figures"])
    return {what: out / name for what, name in NAMES.items()}


def matrix_csv(counted: Confusion) -> str:
    """The matrix with the labels' classes in rows and the map's in columns."""
    names, text = counted.legend.names, io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["label, map", *names])
    writer.writerows([name, *row] for name, row in zip(names, counted.counts.tolist(), strict=True))
    return text.getvalue()


def page(made: Evaluation) -> str:
    """The whole report as HTML."""
    counted, title = made.confusion, f"{', '.join(one.name for one in made.maps)} against labels"
    overall = (
        f"{counted.total:,} labelled pixels: {_share(counted.accuracy)} right, mean IoU {_figure(counted.mean_iou)}, "
        f"kappa {_figure(counted.kappa)}. All counts are pooled; nothing is averaged over maps or windows."
    )
    sections = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(overall)}</p>",
        *(f'<p class="warning">{escape(text)}</p>' for text in made.warnings),
        "<h2>Classes</h2>",
        _classes(counted),
        "<h2>What was taken for what</h2>",
        '<p class="note">Rows: what the labels say. Columns: what the map says. Shades: share of the row.</p>',
        _matrix(counted),
    ]
    for heading, groups in (
        ("Held out from training, and other ground", made.pooled("parts")),
        ("Regions", made.pooled("regions")),
        ("Maps", {one.name: one.confusion for one in made.maps} if len(made.maps) > 1 else {}),
    ):
        if groups:
            sections += [f"<h2>{heading}</h2>", _groups(groups)]
    if (boundaries := made.boundaries) is not None:
        sections += [f"<h2>Edges, within {boundaries.distance_m:g} m</h2>", _edges(boundaries, counted.legend)]
    if objects := made.objects:
        sections += [f"<h2>Objects, the same from an IoU of {LEAST_IOU:g}</h2>", _objects(objects)]
    if (calibration := made.calibration) is not None:
        sections += ["<h2>Can scores be taken for probabilities?</h2>", _reliability(calibration)]
    if pictures := [(one.name, one.picture) for one in made.maps[:_PICTURES] if one.picture is not None]:
        sections += ["<h2>Where it is wrong</h2>", _pictures(pictures, counted.legend)]
    sections.append(f'<p class="note">Labels: {escape(", ".join(made.labels))}</p>')
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(sections) + "\n</body></html>\n"


def _classes(counted: Confusion) -> str:
    rows = []
    for one, row in zip(counted.legend.classes, counted.figures().values(), strict=True):
        swatch = f'<span class="swatch" style="background:{one.colour}"></span>{escape(one.name)}'
        bar = f'<span class="bar"><i style="width:{0 if row["iou"] != row["iou"] else 6 * row["iou"]:.2f}em"></i></span>'
        cells = [_figure(row["iou"]) + bar, *(_figure(row[name]) for name in ("f1", "precision", "recall")), f"{row['pixels']:,.0f}"]
        rows.append([swatch, *cells])
    return _table(["class", *_MEASURES.values()], rows)


def _matrix(counted: Confusion) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in ("", *counted.legend.names))
    lines = []
    for name, row in zip(counted.legend.names, counted.counts.tolist(), strict=True):
        total = sum(row)
        cells = (f'<td style="background:rgba(59,125,216,{0.75 * count / total if total else 0:.2f})">{count:,}</td>' for count in row)
        lines.append(f"<tr><td>{escape(name)}</td>{''.join(cells)}</tr>")
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def _groups(groups: Mapping[str, Confusion]) -> str:
    legend = next(iter(groups.values())).legend
    rows = (
        [escape(name), f"{one.total:,}", _share(one.accuracy), _figure(one.mean_iou), *(_figure(iou) for iou in one.iou)]
        for name, one in groups.items()
    )
    return _table(["", "pixels", "right", "mean IoU", *(f"IoU of {escape(name)}" for name in legend.names)], rows)


def _edges(boundaries: Boundaries, legend: Legend) -> str:
    rows = zip(legend.names, boundaries.iou, boundaries.f1, strict=True)
    return _table(["class", "Boundary IoU", "Boundary F1"], ([escape(name), _figure(iou), _figure(f1)] for name, iou, f1 in rows))


def _objects(found: Mapping[str, ObjectScore]) -> str:
    rows = (
        [
            escape(name),
            f"{one.true:,}",
            f"{one.mapped:,}",
            f"{one.matched:,}",
            *map(_figure, (one.f1, one.precision, one.recall, one.mean_iou)),
        ]
        for name, one in found.items()
    )
    return _table(["class", "in the labels", "on the map", "the same", "F1", "precision", "recall", "mean IoU of the same"], rows)


def _reliability(calibration: Calibration) -> str:
    """The curve with the diagonal on which it should lie."""
    size, points = 260, []
    for pixels, score, accuracy in zip(calibration.pixels, calibration.score, calibration.accuracy, strict=True):
        if pixels:
            points.append((30 + size * float(score), 10 + size * (1 - float(accuracy))))
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#3b7dd8"/>' for x, y in points)
    ticks = "".join(
        f'<text x="{30 + size * at:.0f}" y="{size + 26}" text-anchor="middle">{at:g}</text>'
        f'<text x="24" y="{14 + size * (1 - at):.0f}" text-anchor="end">{at:g}</text>'
        for at in (0, 0.5, 1)
    )
    drawing = (
        f'<svg width="{size + 60}" height="{size + 50}" role="img" aria-label="share that is right against the score">'
        f'<rect x="30" y="10" width="{size}" height="{size}" fill="none" stroke="#999"/>'
        f'<line x1="30" y1="{size + 10}" x2="{size + 30}" y2="10" stroke="#999" stroke-dasharray="4"/>'
        f'<polyline points="{line}" fill="none" stroke="#3b7dd8" stroke-width="2"/>{dots}{ticks}'
        f'<text x="{30 + size / 2:.0f}" y="{size + 44}" text-anchor="middle">score of the class</text>'
        f'<text x="38" y="26">share that is right</text></svg>'
    )
    told = "On the dashed line, of what is mapped with a score of 0.8 four fifths are right; below it, scores promise too much."
    return f"<p>Expected calibration error: {_figure(calibration.error)}. {told}</p>{drawing}"


def _pictures(pictures: Sequence[tuple[str, ErrorPicture]], legend: Legend) -> str:
    """Each map once; the legend says what the colours are."""
    swatch = '<span class="swatch" style="background:{}"></span>{}'
    key = " ".join(swatch.format(one.colour, escape(one.name)) for one in legend.classes)
    told = f"<p>Grey is right; colour is what the map says where the labels say something else: {key}</p>"
    shown = "".join(
        f'<figure><img src="{picture.data_uri(legend)}" alt="errors of {escape(name)}"><figcaption>{escape(name)}'
        f"{f', one of {picture.step} pixels each way' if picture.step > 1 else ''}</figcaption></figure>"
        for name, picture in pictures
    )
    return told + shown


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table of cells that are HTML already."""
    lines = ("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    names = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    return f'<div class="wide"><table><tr>{names}</tr>{"".join(lines)}</table></div>'


def _figure(value: float) -> str:
    return "–" if value != value else f"{value:.3f}"


def _share(value: float) -> str:
    return "–" if value != value else f"{100 * value:.1f} %"
