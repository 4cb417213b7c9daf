"""Every chart as PNG and SVG and every table as CSV, for papers and slides."""

from pathlib import Path

from vexbench.report.gallery import panel_chart
from vexbench.report.judges import judges_frame
from vexbench.report.page import Section, sections
from vexbench.report.svg import Chart, png_file, svg_file
from vexbench.report.syntheses import sheet
from vexbench.report.tables import frames
from vexbench.report.taxonomy import taxonomy
from vexbench.report.words import slug
from vexbench.results.frame import load
from vexbench.results.store import write_bytes


def write_files(directory: Path) -> list[Path]:
    """Write `figures/*.png`, `figures/*.svg` and `tables/*.csv` into a study's folder, and return them.

    With several models or datasets, each has a folder of its own below these.

    Raises
    ------
    VexbenchError
        The folder holds no study, a file in it is damaged, or a file cannot be written.
    """
    study = load(directory)
    every = sections(study)
    written = _figure(directory / "figures", taxonomy([method for group in study.groups for method in group.methods]))
    for section in every:
        name = f"{section.group.dataset_name} {section.group.model_name}"
        below = _numbered(section.number, name) if len(every) > 1 else ""
        sheets = [sheet(section.group, section.wishes)] if section.wishes else []
        for chart in (*section.charts.values(), *_heatmaps(section), *sheets):
            written += _figure(directory / "figures" / below, chart)
        judged = {"judges": judges_frame(section.judges)} if section.judges.metrics else {}
        for name, table in {**frames(section.summary), **judged}.items():
            written.append(directory / "tables" / below / f"{name}.csv")
            write_bytes(written[-1], table.write_csv().encode())
    return written


def _heatmaps(section: Section) -> list[Chart]:
    return [
        panel_chart(section.group, panel, f"heatmaps-{_numbered(number, panel.title)}")
        for number, panel in enumerate(section.panels, 1)
        if panel.methods
    ]


def _numbered(number: int, name: str) -> str:
    """A part of a file name that no other has: names may differ in signs only, or be longer than a disk allows."""
    return f"{number}-{slug(name)[:40]}"


def _figure(folder: Path, chart: Chart) -> list[Path]:
    png, svg = folder / f"{chart.name}.png", folder / f"{chart.name}.svg"
    write_bytes(png, png_file(chart))
    write_bytes(svg, svg_file(chart))
    return [png, svg]
