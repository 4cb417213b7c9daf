"""Who owns what is painted, and the colours of things by daylight."""

from vexbench.datasets.scenery.painting import Colour, Painter, hexed

BUILDINGS, FOREST, GLACIER, MOUNTAIN, SEA, STREET = range(1, 7)
"""Owners: the class index plus one."""

ROCKS = tuple(hexed(code) for code in ("6d7486", "7d7a78", "5a6b78", "8a7466", "757f8c"))
SNOW, SNOW_SHADE = hexed("f7fafc"), hexed("b4c8de")
ICE, ICE_SHADE, ICE_DEEP = hexed("e3f1f6"), hexed("a6d0e4"), hexed("4f9cc6")
WALLS = tuple(
    hexed(code) for code in ("e8d9c3", "c9745a", "d9a066", "8fa3ad", "b7c0c4", "a85f4b", "e3c9a0", "6f8796", "cfc7ba")
)
GLASS = tuple(hexed(code) for code in ("5f87a3", "4f7388", "7fa6b5", "3f5f7a"))
ROOFS = tuple(hexed(code) for code in ("8f4a3c", "a65a3f", "5f5a63", "7a4038", "4f5b66"))
PANE, LAMP = hexed("3c5068"), hexed("ffd98a")
WATERS = ((hexed("8fc3d4"), hexed("1f6f93")), (hexed("9fd6cf"), hexed("1f8a94")), (hexed("8fb0cf"), hexed("2a568c")))
SAND, ROAD, PAVING, PAINT = hexed("ecd6a4"), hexed("62666e"), hexed("b5b1ab"), hexed("f4f1e6")
TRUNK, BIRCH = hexed("5c4537"), hexed("d8d3c8")


def pick(painter: Painter, choices: tuple[Colour, ...]) -> Colour:
    """One of the colours."""
    return choices[int(painter.random.integers(len(choices)))]
