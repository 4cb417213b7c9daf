"""The page in a real browser: no console error, and the table sorts."""

import json
import re
import shutil
import subprocess
from html import unescape

import pytest
from synthetic import METHODS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")

QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--dump-dom",
]

PROBE = """
<script>
const table = document.querySelector("table[data-sortable]");
const buttons = [...table.querySelectorAll("thead button")];
const column = (title) => buttons.findIndex((button) => button.textContent.includes(title));
const shown = (at) => [...table.tBodies[0].rows].map((row) => row.cells[at].dataset.value ?? null);
const sorts = () => buttons.map((button) => button.closest("th").getAttribute("aria-sort"));
const found = {};
for (const [name, title, times] of [["up", "Deletion", 1], ["down", "Deletion", 1], ["higher", "Insertion", 1], ["name", "Method", 1], ["gap", "MPRT", 2]]) {
  const at = column(title);
  for (let i = 0; i < times; i++) buttons[at].click();
  found[name] = { values: shown(at), sort: sorts()[at], sorted: sorts().filter((s) => s !== "none").length };
}
const theme = document.getElementById("theme");
const paper = () => getComputedStyle(document.body).backgroundColor;
found.before = [paper(), theme.textContent];
theme.click();
found.after = [paper(), theme.textContent, theme.getAttribute("aria-pressed")];
found.broken = [...document.images].filter((image) => image.loading !== "lazy" && !image.naturalWidth).length;
found.flat = [...document.querySelectorAll("svg[role=img]")].filter((chart) => chart.getBoundingClientRect().height < 50).length;
found.fonts = new Set([...document.querySelectorAll("svg text")].map((text) => getComputedStyle(text).fontFamily)).size;
document.body.dataset.found = JSON.stringify(found);
</script>
"""  # noqa: E501


@pytest.fixture(scope="module")
def opened(page: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, list[str]]:
    folder = tmp_path_factory.mktemp("browser")
    (folder / "page.html").write_text(page.replace("</body>", PROBE + "</body>"))
    command = [str(CHROMIUM), *QUIET, f"--user-data-dir={folder / 'profile'}", f"file://{folder / 'page.html'}"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    found = re.search(r'data-found="([^"]*)"', run.stdout)
    assert found, run.stderr[-2000:]
    return json.loads(unescape(found[1])), [line for line in run.stderr.splitlines() if "CONSOLE" in line]


def test_console_is_silent(opened: tuple[dict, list[str]]) -> None:
    assert opened[1] == []


def test_heading_sorts_up_then_down(opened: tuple[dict, list[str]]) -> None:
    found = opened[0]
    up, down = found["up"], found["down"]
    assert [float(value) for value in up["values"]] == sorted(float(value) for value in up["values"])
    assert (up["sort"], down["sort"]) == ("ascending", "descending")
    assert down["values"] == up["values"][::-1]
    assert up["sorted"] == down["sorted"] == 1


def test_first_press_puts_the_best_first(opened: tuple[dict, list[str]]) -> None:
    values = [float(value) for value in opened[0]["higher"]["values"]]
    assert values == sorted(values, reverse=True)
    assert opened[0]["higher"]["sort"] == "descending"


def test_names_sort_as_names(opened: tuple[dict, list[str]]) -> None:
    assert opened[0]["name"]["values"] == sorted((title for title, *_ in METHODS.values()), key=str.casefold)


def test_missing_values_stand_last_in_either_order(opened: tuple[dict, list[str]]) -> None:
    assert opened[0]["gap"]["sort"] == "descending"
    assert opened[0]["gap"]["values"][-1] is None
    assert None not in opened[0]["gap"]["values"][:-1]


def test_theme_switches(opened: tuple[dict, list[str]]) -> None:
    before, after = opened[0]["before"], opened[0]["after"]
    assert before[0] != after[0]
    assert {before[1], after[1]} == {"Dark", "Light"}
    assert after[2] == str(after[1] == "Light").lower()


def test_charts_are_visible_in_the_font_of_the_page(opened: tuple[dict, list[str]]) -> None:
    assert opened[0]["flat"] == 0
    assert opened[0]["fonts"] == 1
    assert opened[0]["broken"] == 0
