"""Write the tables of methods, metrics and datasets from the registry; --check says whether they are current."""

import sys
from pathlib import Path

import vexbench as vb
from vexbench.registry import Entry

HERE = Path(__file__).parent
NOTE = "Generated from the registry by `make docs`; do not edit."


def row(*cells: str) -> str:
    """One line of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def table(*lines: tuple[str, ...]) -> str:
    """A Markdown table; the first line is its head."""
    head, *body = lines
    return "\n".join([row(*head), row(*("---" for _ in head)), *(row(*line) for line in body)])


def parameters(entry: Entry) -> str:
    """Parameters with their defaults."""
    return ", ".join(f"`{name}={value!r}`" for name, value in entry.parameters.items())


def pages() -> dict[Path, str]:
    """Each page's path and text."""
    methods = table(
        ("id", "family", "what it does", "parameters", "paper"),
        *((f"`{e.id}`", e.family, e.summary, parameters(e), e.paper) for e in vb.methods().values()),
    )
    metrics = table(
        ("id", "axis", "better", "what it measures", "needs", "parameters", "paper"),
        *(
            (f"`{e.id}`", e.family, e.arrow, e.summary, ", ".join(e.needs), parameters(e), e.paper)
            for e in vb.metrics().values()
        ),
    )
    datasets = table(
        ("id", "kind", "what it is", "parameters", "source"),
        *((f"`{e.id}`", e.family, e.summary, parameters(e), e.paper) for e in vb.datasets().values()),
    )
    texts = {"methods": ("Methods", methods), "metrics": ("Metrics", metrics), "datasets": ("Data sets", datasets)}
    return {HERE / f"{name}.md": f"# {title}\n\n{NOTE}\n\n{body}\n" for name, (title, body) in texts.items()}


def main() -> None:
    """Write the pages, or check them."""
    for path, text in pages().items():
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"docs/{path.name} is stale; run `make docs`.")


main()
