"""Numbers and names as people read them."""

import math
import re
from collections.abc import Sequence


def number(value: float | None) -> str:
    """Three significant digits, whole numbers as they are, a dash for nothing.

    >>> [number(v) for v in (0.12345, 0.5, 12.345, 1234.5, 0.0, 2e-7, 3.0, None)]
    ['0.123', '0.500', '12.3', '1,230', '0', '2.00e-07', '3', '–']
    """
    if value is None or not math.isfinite(value):
        return "–"
    if value == int(value) and abs(value) < 1000:
        return str(int(value))
    return _three(value)


def _three(value: float) -> str:
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(float(f"{value:.2e}"))))
    if digits > 5:
        return f"{value:.2e}"
    return f"{round(value, digits):,.{max(digits, 0)}f}"


def span(low: float, high: float) -> str:
    """An interval, for people.

    >>> span(0.0, 1.0), span(5.0, 7.125), span(math.nan, math.nan)
    ('0–1', '5.00–7.12', '–')
    """
    if math.isnan(low):
        return "–"
    write = number if low == round(low, 0) and high == round(high, 0) else _three
    return f"{write(low)}–{write(high)}"


def share(value: float) -> str:
    """A share as whole percent; never 0 or 100 % unless it is; a dash for nothing.

    >>> share(0.004), share(1.0), share(0.996), share(math.nan)
    ('< 1 %', '100 %', '> 99 %', '–')
    """
    if math.isnan(value):
        return "–"
    if 0 < value < 0.01:
        return "< 1 %"
    if 0.99 < value < 1:
        return "> 99 %"
    return f"{value:.0%}".replace("%", " %")


def listing(names: Sequence[str], most: int = 5) -> str:
    """Names in a row.

    >>> listing(["a", "b", "c"]), listing("abcdefg", most=3)
    ('a, b and c', 'a, b and 5 others')
    """
    if len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1} others"]
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def plural(count: int, word: str) -> str:
    """A count with its noun.

    >>> plural(1, "image"), plural(1200, "image")
    ('1 image', '1,200 images')
    """
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def short(name: str, most: int = 30) -> str:
    """A name for a chart: without control characters, cut in the middle where it is too long.

    >>> short("a" * 20 + "b" * 20, 11)
    'aaaaa…bbbbb'
    """
    name = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", name)
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"


def slug(name: str) -> str:
    """A name as a part of a file name or of an anchor.

    >>> slug("Buildings and <forest>")
    'buildings-and-forest'
    """
    return re.sub(r"[^\w]+", "-", name.lower()).strip("-") or "x"


def plainly(summary: str) -> str:
    """A summary without its formula, which follows a colon.

    >>> plainly("Share of the probability `y` that is lost: max(0, y − o) / y.")
    'Share of the probability y that is lost.'
    """
    sentence, _, formula = summary.replace("`", "").partition(": ")
    return f"{sentence}." if formula else sentence
