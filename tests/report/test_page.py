import re
import shutil
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from parsed import Page, parse
from synthetic import METHODS, METRICS, write_study

import vexbench as vb
from vexbench.errors import VexbenchError
from vexbench.report import palette, report
from vexbench.report.gallery import panels
from vexbench.report.page import render
from vexbench.report.taxonomy import TREE
from vexbench.results import record
from vexbench.results.frame import load
from vexbench.results.store import read_array, read_frame, read_json, write_array, write_frame, write_json

NASTY = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "$\\frac{a}{$",
    "]]>--></svg></style>",
    "{{ 7 * 7 }} {% for %}",
    "名前‮abc\x00\x1b[31m",
)


@pytest.fixture(scope="module")
def parts(page: str) -> Page:
    return parse(page)


def check_self_contained(page: Page) -> None:
    """Nothing is loaded; links lead to citations or to places in the page; ids are unique and every reference holds."""
    ids = Counter(element.attributes["id"] for element in page.elements if "id" in element.attributes)
    assert [name for name, count in ids.items() if count > 1] == []
    for element in page.elements:
        for name, value in element.attributes.items():
            assert not name.startswith("on"), f"{element.tag} {name}"
            if name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
                citation = element.tag == "a" and value.startswith(("https://arxiv.org/", "https://doi.org/"))
                inner = value.startswith("#") and value[1:] in ids
                picture = element.tag == "img" and value.startswith("data:image/webp;base64,")
                assert citation or inner or picture, f"{element.tag} {name}={value[:80]}"
            for target in re.findall(r"url\(([^)]*)\)", value):
                assert target.strip("\"'#") in ids, f"url({target})"
    assert len(list(page.all("script"))) == 1
    assert not list(page.all("link", "iframe", "object", "embed", "base"))
    style = "".join(element.text for element in page.all("style"))
    assert "url(" not in style
    assert "@import" not in style


def test_page_asks_no_network(parts: Page) -> None:
    check_self_contained(parts)
    policy = next(
        e.attributes["content"] for e in parts.all("meta") if "Security" in e.attributes.get("http-equiv", "")
    )
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_page_is_small(page: str) -> None:
    assert len(page.encode()) < 3_000_000


def test_every_picture_says_what_it_shows(parts: Page) -> None:
    pictures = list(parts.all("img"))
    charts = [e for e in parts.all("svg") if "svg" not in e.inside]
    assert len(pictures) == 12 * 12  # two images of six classes, with eleven maps each
    assert all(picture.attributes["alt"].strip() for picture in pictures)
    assert len(charts) == 10
    assert all(chart.attributes["role"] == "img" and len(chart.attributes["aria-label"]) > 40 for chart in charts)


def test_page_can_be_read_with_a_keyboard_and_a_screen_reader(parts: Page) -> None:
    assert next(parts.all("html")).attributes["lang"] == "en"
    assert [e.text for e in parts.all("h1")] == ["Which explanation can be trusted for Our plain cnn on Drawn scenes?"]
    assert all(
        e.attributes.get("tabindex") == "0" for e in parts.all("div") if "scroll" in e.attributes.get("class", "")
    )
    assert all(e.attributes.get("aria-label") or e.attributes.get("aria-labelledby") for e in parts.all("nav"))
    headings = [int(e.tag[1]) for e in parts.all("h1", "h2", "h3", "h4")]
    assert all(later - earlier <= 1 for earlier, later in pairwise(headings))


def test_everything_stands_in_order(parts: Page) -> None:
    titles = [e.text.strip() for e in parts.all("h2")]
    assert titles == [
        "Axis by axis",
        "Ranking",
        "All scores",
        "Metric by metric",
        "Does it beat a random map?",
        "Which metrics to trust here",
        "Quality against cost",
        "Heatmaps",
        "The methods and their kin",
        "The data and the network",
        "Provenance",
    ]
    assert [e.text for e in parts.all("h3") if " and " in e.text][:3] == [
        "Buildings and forest",
        "Mountain and sea",
        "Glacier and street",
    ]


def test_all_methods_and_metrics_are_in_the_table_with_arrows(parts: Page) -> None:
    buttons = [e.text for e in parts.all("button") if "th" in e.inside]
    assert len(buttons) == 2 + len(METRICS)
    for title, _, direction, *_ in METRICS.values():
        assert f"{title}\xa0{'↑' if direction == 'higher' else '↓'}" in buttons
    rows = [e.text for e in parts.all("th") if e.attributes.get("scope") == "row"]
    assert all(any(title in row for row in rows) for title, *_ in METHODS.values())


def test_undefined_scores_failures_and_skipped_images_are_told(parts: Page) -> None:
    assert "n = 38 of 48" in parts.text
    assert re.search(r"Pointing game: \d+ of 528 scores", parts.text)
    assert "this network has layers without a bias." in parts.text
    assert "the file is truncated" in parts.text
    assert "2 not computed" in parts.text


def test_counts_of_every_class_are_a_chart_not_a_list(parts: Page) -> None:
    terms = [e.text for e in parts.all("dt")]
    assert "trained on · revision" in terms
    assert not [term for term in terms if "counts" in term]


def test_no_theme_colour_is_fixed(page: str) -> None:
    charts = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    assert charts.count("var(--ink)") > 100
    assert charts.count("var(--family-cam)") > 10
    assert set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", charts)) == set()


def test_dark_and_light_have_the_same_colours(page: str) -> None:
    themes = [set(re.findall(r"(--[\w-]+): #", rule)) for rule in re.findall(r":root[^{]*\{[^}]*\}", page)]
    assert len(themes) == 3
    assert themes[0] == themes[1] == themes[2]


def test_every_family_and_axis_has_a_look_and_a_name() -> None:
    assert tuple(palette.FAMILIES) == record.FAMILIES
    assert tuple(palette.AXES) == record.AXES


@pytest.mark.parametrize("name", ["ink", "muted", "accent"])
@pytest.mark.parametrize("dark", [False, True])
def test_text_has_enough_contrast(name: str, dark: bool) -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    colours = palette.variables(dark=dark)
    light, deep = sorted((luminance(colours[name]), luminance(colours["paper"])), reverse=True)
    assert (light + 0.05) / (deep + 0.05) >= 4.5


def test_user_texts_are_escaped(tmp_path: Path) -> None:
    root = write_study(tmp_path, images=6, size=16, class_names=NASTY, methods=("saliency", "random"))
    described = load(root)
    model = described.groups[0].directory
    write_json(
        root / "study.json",
        {"title": NASTY[0], "config": {"title": NASTY[1], NASTY[3]: NASTY[4]}, "provenance": {NASTY[0]: NASTY[1]}},
    )
    write_json(next(model.glob("full_grad-*")) / "failed.json", {"error": NASTY[1], "reason": NASTY[0]})
    card = dict(described.groups[0].card)
    write_json(model / "card.json", card | {"title": NASTY[1], "architecture": NASTY[0], "seed": NASTY[3]})
    dataset = dict(described.groups[0].dataset)
    write_json(
        model.parent / "dataset.json", dataset | {"title": NASTY[3], "skipped": [{"id": NASTY[1], "reason": NASTY[0]}]}
    )
    page = parse(render(load(root)))
    check_self_contained(page)
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert "$\\frac" in page.text


def test_unfinished_study_says_what_is_missing(tmp_path: Path) -> None:
    page = parse(
        render(load(write_study(tmp_path, images=6, size=16, methods=("cam", "random", "sobel_edges"), finished=False)))
    )
    check_self_contained(page)
    assert "This study is unfinished." in page.text
    assert "Sobel edges, MPRT" in page.text
    assert "waiting" in page.text


def test_study_that_has_only_begun(tmp_path: Path) -> None:
    write_json(tmp_path / "study.json", {"title": "Tonight", "config": {"methods": ["grad_cam"]}, "provenance": {}})
    page = parse(report(tmp_path).read_text())
    assert [e.text for e in page.all("h1")] == ["Tonight"]
    assert "Nothing has been computed yet." in page.text


@pytest.mark.parametrize("methods", [("grad_cam",), ("random",)])
def test_few_methods_and_a_network_from_elsewhere(tmp_path: Path, methods: tuple[str, ...]) -> None:
    page = parse(render(load(write_study(tmp_path, images=6, size=16, methods=methods, bare_card=True))))
    check_self_contained(page)
    assert "tells nothing of its training" in page.text


def test_two_networks_have_a_section_each(tmp_path: Path) -> None:
    root = write_study(
        tmp_path, images=6, size=16, methods=("cam", "random"), models=("plain_cnn", "attention_cnn"), bare_card=True
    )
    page = parse(render(load(root)))
    check_self_contained(page)
    assert [e.text for e in page.all("h1")] == ["Synthetic scenes"]
    assert len(list(page.all("article"))) == 2


def test_torch_is_not_needed_and_rendering_twice_gives_the_same(tmp_path: Path) -> None:
    root = write_study(tmp_path, images=6, size=16, methods=("saliency", "random"), bare_card=True)
    program = (
        "import sys; from pathlib import Path\n"
        "from vexbench.report import report\n"
        "report(Path(sys.argv[1]))\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program, str(root)], check=True)
    assert (root / "report.html").read_text() == render(load(root))


def test_page_that_cannot_be_written(tmp_path: Path) -> None:
    write_json(tmp_path / "study.json", {})
    (tmp_path / "file").write_text("")
    with pytest.raises(VexbenchError, match="cannot write"):
        report(tmp_path, tmp_path / "file" / "page.html")


def test_folder_without_a_study(tmp_path: Path) -> None:
    with pytest.raises(VexbenchError, match="holds no study"):
        report(tmp_path)


def test_the_tree_holds_every_method_in_its_family() -> None:
    families: dict[str, set[str]] = {}
    for entry in vb.methods().values():
        if entry.function.__module__.startswith("vexbench.methods."):
            families.setdefault(entry.family, set()).add(entry.id)
    assert {kind: set(names) for kind, names in TREE.items()} == families


def test_race_says_what_was_stopped_and_when(tmp_path: Path) -> None:
    root = write_study(tmp_path / "study")
    study = read_json(root / "study.json")
    write_json(root / "study.json", {**study, "config": {**study["config"], "race": 0.95}})
    (place,) = (path.parent for path in root.rglob("choice.json") if path.parent.name.startswith("saliency-"))
    for cell in place.glob("*.parquet"):
        write_frame(cell, read_frame(cell)[:20])
    maps = read_array(place / "maps.zarr")
    shutil.rmtree(place / "maps.zarr")
    write_array(place / "maps.zarr", maps[:20])
    loaded = load(root)
    page = render(loaded)
    stopped = len(list(place.glob("*.parquet")))
    assert not loaded.pending
    assert f"{stopped} of " in page
    assert "stopped after 20 of 48 images, their place settled at 95 %" in page
    assert "n = 20 of 48, settled" in page
    assert page.count("n = 20 of 48, settled") + page.count("n = 16 of 48, settled") == stopped
    frame = loaded.frame()
    assert set(frame.filter(method="saliency").group_by("metric").len()["len"]) == {20}
    shown = [image.row for panel in panels(loaded.groups[0]) for image in panel.images]
    assert shown
    assert max(shown) < 20


def test_what_decides_the_numbers_is_told(tmp_path: Path) -> None:
    root = write_study(tmp_path / "study")
    study = read_json(root / "study.json")
    config = {"preset": "quick", "budget": "2h", "race": None, "precision": "bf16", "reference": False}
    write_json(root / "study.json", {**study, "config": {**study["config"], **config}})
    page = render(load(root))
    told = dict(re.findall(r"<dt>([^<]+)</dt>\s*<dd>([^<]+)</dd>", page[page.index('id="provenance"') :]))
    assert {name: told.get(name) for name in ("preset", "budget", "race", "precision", "without speed-ups")} == {
        "preset": "quick", "budget": "2h", "race": None, "precision": "bf16", "without speed-ups": None,
    }  # fmt: skip
