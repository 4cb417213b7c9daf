"""The page: one HTML file that holds everything, opens from disk and asks no network."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import jinja2
from markupsafe import Markup

from vexbench.report import answer, charts, gallery, model_charts, palette, syntheses, tables, words
from vexbench.report import judges as judging
from vexbench.report.recipe import recipe
from vexbench.report.svg import Chart, inline
from vexbench.report.taxonomy import taxonomy
from vexbench.results.frame import Group, Study, load
from vexbench.results.store import write_bytes
from vexbench.stats.bootstrap import FEWEST
from vexbench.stats.judging import Judges
from vexbench.stats.summary import Summary, summarise


@final
@dataclass(frozen=True)
class Section:
    """What the page tells of one model on one dataset."""

    number: int
    summary: Summary
    question: str
    headline: str
    support: tuple[str, ...]
    findings: tuple[answer.Finding, ...]
    rows: tuple[tables.Row, ...]
    panels: tuple[gallery.Panel, ...]
    wishes: tuple[syntheses.Wish, ...]
    judges: Judges

    @property
    def group(self) -> Group:
        """The model and the dataset."""
        return self.summary.group

    @property
    def anchor(self) -> str:
        """A prefix for anchors and ids, unique on the page."""
        return f"s{self.number}-"

    @cached_property
    def charts(self) -> Mapping[str, Chart]:
        """All charts of the section that there is data for, by name."""
        group, card = self.group, self.group.card
        counts = _counts(group)
        drawn = [
            charts.ranking(self.summary) if self.summary.overall else None,
            charts.scores(self.summary) if self.summary.metrics else None,
            charts.tradeoff(self.summary),
            judging.matrix(self.judges),
            model_charts.splits(counts, group.class_names),
            model_charts.shares(counts, group.class_names),
            model_charts.curves(card),
            model_charts.class_accuracy(card),
            model_charts.confusion(card, group.class_names),
        ]
        return {chart.name: chart for chart in drawn if chart is not None}


def report(directory: Path, out: Path | None = None) -> Path:
    """Render a study as one HTML page, `report.html` in its folder by default, and return the file.

    Raises
    ------
    VexbenchError
        The folder holds no study, a file in it is damaged, or the page cannot be written.
    """
    target = out or directory / "report.html"
    write_bytes(target, render(load(directory)).encode())
    return target


def render(study: Study) -> str:
    """The page as text."""
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            study=study,
            sections=sections(study),
            taxonomy=taxonomy(list({m.id: m for group in study.groups for m in group.methods}.values())),
            recipe=recipe(study.config),
            light=palette.variables(dark=False),
            dark=palette.variables(dark=True),
            family_of=palette.family,
        )
    )


def sections(study: Study) -> tuple[Section, ...]:
    """One section per model and dataset."""
    return tuple(_section(number, group) for number, group in enumerate(study.groups, 1))


def _section(number: int, group: Group) -> Section:
    summary = summarise(group)
    return Section(
        number,
        summary,
        answer.question(summary),
        answer.headline(summary),
        tuple(answer.support(summary)),
        tuple(answer.findings(summary)),
        tables.rows(summary),
        gallery.panels(group),
        syntheses.wishes(group),
        Judges(summary),
    )


def _counts(group: Group) -> Mapping[str, Mapping[str, int]]:
    """Images per split and class: the dataset's, or, where it knows one split only, those the network learnt from."""
    counts, trained = group.dataset.get("counts") or {}, group.card.get("data") or {}
    learnt = trained.get("counts") or {}
    return learnt if trained.get("name") == group.dataset.get("name") and len(learnt) > len(counts) < 2 else counts


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": words.number,
        "share": words.share,
        "plural": words.plural,
        "listing": words.listing,
        "plainly": words.plainly,
        "paper": _paper,
        "merged": _merged,
    }
    environment.globals |= {
        "svg": inline,
        "tiles": _tiles,
        "bar": _bar,
        "facts": tables.facts,
        "undefined_scores": tables.undefined,
        "beats": tables.beats,
        "syntheses": syntheses,
        "judging": judging,
        "spans": tables.spans,
        "quality": tables.quality,
        "axis_title": palette.axis_title,
        "gallery_rule": gallery.RULE,
        "fewest": FEWEST,
        "source": lambda name: Markup((Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")),
    }
    return environment


def _tiles(group: Group, panel: gallery.Panel) -> list[dict[str, Any]]:
    """The pictures of a panel as data URIs: per image the photo, and one overlay per method."""
    rows = [image.row for image in panel.images]
    images = group.images(rows)
    maps = {method.key: group.maps(method, rows) for method in panel.methods}
    return [
        {
            "shown": shown,
            "photo": gallery.data_uri(images[place]),
            "overlays": [
                (
                    method,
                    gallery.data_uri(gallery.overlay(images[place], maps[method.key][place], signed=method.signed)),
                )
                for method in panel.methods
            ],
        }
        for place, shown in enumerate(panel.images)
    ]


def _bar(signed: bool) -> str:
    """The colour bar as a CSS gradient."""
    colours = (gallery.bar_colours(signed=signed)[::15] * 255).astype(int)
    return f"linear-gradient(to right, {', '.join('rgb({} {} {})'.format(*colour) for colour in colours)})"


def _paper(text: str) -> Markup:
    """A citation, with what names it on arXiv or by DOI as a link."""
    escaped = str(Markup.escape(text))
    linked = re.sub(r"arXiv:(\d{4}\.\d{4,5})", r'<a href="https://arxiv.org/abs/\1">arXiv:\1</a>', escaped)
    return Markup(re.sub(r"doi:(10\.\d+/[\w.()/-]+)", r'<a href="https://doi.org/\1">doi:\1</a>', linked))


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    return {**first, **second}
