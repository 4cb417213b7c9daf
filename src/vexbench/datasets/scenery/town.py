"""What towns are made of: houses, towers, façades along a road, cars; evidence of buildings or street."""

from vexbench.datasets.scenery.materials import (
    BUILDINGS,
    GLASS,
    LAMP,
    PAINT,
    PANE,
    PAVING,
    ROAD,
    ROOFS,
    STREET,
    WALLS,
    pick,
)
from vexbench.datasets.scenery.painting import BLACK, Colour, Painter, hexed, mix

CARS = tuple(hexed(code) for code in ("b23a3a", "2f5d8a", "e3e3df", "d9a22e", "3a3f47", "4f7f6a"))


def house(painter: Painter, x: float, base: float, width: float, depth: float) -> None:
    """A house with a gable: shaded wall, roof, windows, door, chimney."""
    height, owner = width * painter.between(0.55, 1.0), BUILDINGS
    wall, roof = painter.tone(pick(painter, WALLS), depth), painter.tone(pick(painter, ROOFS), depth)
    dark, left, right, eaves = mix(wall, (0.15, 0.12, 0.25), 0.25), x - width / 2, x + width / 2, base - height
    rise = width * painter.between(0.3, 0.55)
    painter.box(x + 0.22 * width, eaves - 0.9 * rise, x + 0.32 * width, eaves, mix(roof, dark, 0.5), owner)
    painter.box(left, eaves, right, base, wall, owner)
    seam = x + painter.light * -0.2 * width
    painter.box(*((seam, eaves, right, base) if painter.light < 0 else (left, eaves, seam, base)), dark, owner)
    brim = 0.06 * width
    painter.polygon([(left - brim, eaves), (x, eaves - rise), (right + brim, eaves)], roof, owner)
    painter.polygon(
        [(x, eaves - rise), (right + brim, eaves), (x, eaves)]
        if painter.light < 0
        else [(x, eaves - rise), (left - brim, eaves), (x, eaves)],
        mix(roof, (0.1, 0.05, 0.15), 0.25),
        owner,
    )
    for row in range(2 if height > 0.8 * width else 1):
        for column in range(3):
            wx, wy = left + width * (0.14 + 0.29 * column), eaves + height * (0.14 + 0.42 * row)
            painter.box(wx, wy, wx + 0.14 * width, wy + 0.2 * height, _pane(painter, depth), owner)
    painter.box(x - 0.08 * width, base - 0.34 * height, x + 0.08 * width, base, mix(roof, PANE, 0.4), owner)


def tower(painter: Painter, left: float, right: float, top: float, base: float, depth: float) -> None:
    """A tall block: lit face, shaded side, bands of windows, some of them lit."""
    owner, glassy = BUILDINGS, painter.chance(0.4)
    wall = painter.tone(pick(painter, GLASS if glassy else WALLS), depth)
    dark, width, height = mix(wall, (0.08, 0.08, 0.22), 0.35), right - left, base - top
    if painter.chance(0.3):
        painter.box(left + 0.45 * width, top - 0.18 * width, left + 0.5 * width, top, dark, owner)
    if painter.chance(0.35):
        painter.box(left + 0.2 * width, top - 0.08 * height, right - 0.2 * width, top, mix(wall, dark, 0.4), owner)
    painter.shaded(
        [(left, top), (right, top), (right, base), (left, base)], mix(wall, painter.mood.sun, 0.12), wall, owner
    )
    side = painter.between(0.18, 0.35) * width
    face = (left, right - side) if painter.light < 0 else (left + side, right)
    shade = (right - side, right) if painter.light < 0 else (left, left + side)
    pane = painter.tone(mix(PANE, GLASS[2], 0.5 if glassy else 0.0), depth)
    columns, rows = max(2, round((face[1] - face[0]) / 0.035)), max(3, round(height / painter.between(0.045, 0.07)))
    step_x, step_y = (face[1] - face[0]) / columns, height / (rows + 0.4)
    if glassy or painter.chance(0.3):
        for row in range(rows):
            y = top + step_y * (row + 0.4)
            painter.box(face[0] + 0.15 * step_x, y, face[1] - 0.15 * step_x, y + 0.55 * step_y, pane, owner)
    else:
        for column in range(columns):
            x = face[0] + step_x * (column + 0.25)
            painter.box(x, top + 0.4 * step_y, x + 0.5 * step_x, base - 0.4 * step_y, pane, owner)
        for row in range(rows + 1):
            y = top + step_y * row
            painter.box(face[0], y - 0.02 * step_y, face[1], y + 0.42 * step_y, wall, owner)
    for _ in range(int(painter.mood.lamps * columns * rows * 0.5)):
        x = face[0] + step_x * (int(painter.random.integers(columns)) + 0.25)
        y = top + step_y * (int(painter.random.integers(rows)) + 0.45)
        painter.box(x, y, x + 0.5 * step_x, y + 0.5 * step_y, mix(LAMP, painter.mood.haze, depth * 0.6), owner)
    painter.box(shade[0], top, shade[1], base, dark, owner)
    for row in range(rows):
        y = top + step_y * (row + 0.45)
        painter.box(shade[0] + 0.2 * side, y, shade[1] - 0.2 * side, y + 0.35 * step_y, mix(dark, pane, 0.7), owner)


def palace(painter: Painter, left: float, right: float, top: float, base: float, depth: float) -> None:
    """A long façade with columns under a pediment."""
    owner, wall = BUILDINGS, painter.tone(mix(pick(painter, WALLS), PAINT, 0.45), depth)
    dark, width, height = mix(wall, (0.15, 0.1, 0.3), 0.3), right - left, base - top
    x, rise = (left + right) / 2, height * painter.between(0.25, 0.45)
    painter.box(left, top, right, base, wall, owner)
    painter.polygon([(x - 0.26 * width, top), (x, top - rise), (x + 0.26 * width, top)], mix(wall, dark, 0.35), owner)
    painter.polygon(
        [(x - 0.2 * width, top - 0.1 * rise), (x, top - 0.8 * rise), (x + 0.2 * width, top - 0.1 * rise)], wall, owner
    )
    painter.box(left - 0.01, top, right + 0.01, top + 0.09 * height, mix(wall, dark, 0.5), owner)
    n = int(painter.random.integers(7, 12))
    for k in range(n):
        cx = left + width * (k + 0.5) / n
        painter.box(
            cx - 0.28 * width / n,
            top + 0.2 * height,
            cx + 0.28 * width / n,
            base,
            _pane(painter, depth) if abs(cx - x) > 0.26 * width else dark,
            owner,
        )
        if abs(cx - x) <= 0.26 * width:
            painter.box(
                cx - 0.16 * width / n, top + 0.12 * height, cx + 0.16 * width / n, base, mix(wall, PAINT, 0.5), owner
            )
        else:
            painter.box(
                cx - 0.3 * width / n, top + 0.52 * height, cx + 0.3 * width / n, top + 0.62 * height, wall, owner
            )
    painter.box(left - 0.02, base - 0.05 * height, right + 0.02, base, dark, owner)


def _pane(painter: Painter, depth: float) -> Colour:
    return (
        mix(LAMP, painter.mood.haze, depth * 0.6) if painter.chance(painter.mood.lamps) else painter.tone(PANE, depth)
    )


class Avenue:
    """A road towards a vanishing point, and what stands along it."""

    def __init__(self, painter: Painter, x: float, y: float, width: float) -> None:
        self.painter, self.x, self.y, self.width = painter, x, y, width

    def at(self, across: float, up: float, away: float) -> tuple[float, float]:
        """Picture of a point: `across` in road halves, `up` in picture heights at the front, `away` >= 1."""
        ground = (1.02 - self.y) / away
        return self.x + across * self.width / 2 / away, self.y + ground - up / away

    def road(self, end: float = 30.0) -> None:
        """Pavements, tarmac, kerbs, lane marks, sometimes a crossing."""
        painter, tarmac = self.painter, self.painter.tone(ROAD, 0.0, 0.15)
        far = mix(tarmac, painter.mood.haze, 0.55)
        for reach, near, distant in (
            (1.7, painter.tone(PAVING), mix(painter.tone(PAVING), painter.mood.haze, 0.5)),
            (1.06, painter.tone(mix(PAVING, ROAD, 0.5)), far),
            (1.0, tarmac, far),
        ):
            painter.shaded(
                [
                    self.at(-reach, 0.0, end),
                    self.at(reach, 0.0, end),
                    self.at(reach, 0.0, 0.9),
                    self.at(-reach, 0.0, 0.9),
                ],
                distant,
                near,
                STREET,
            )
        paint, away = mix(painter.tone(PAINT), tarmac, 0.1), painter.between(0.9, 1.1)
        solid = painter.chance(0.3)
        while away < 12:
            ahead = away * (1.22 if not solid else 1.45)
            self.flat(-0.03, 0.03, away, ahead, paint)
            away = ahead * (1.25 if not solid else 1.0)
        if painter.chance(0.35):
            near = painter.between(1.1, 1.6)
            for k in range(8):
                self.flat(-0.95 + 0.25 * k, -0.83 + 0.25 * k, near, near * 1.25, paint)

    def flat(self, left: float, right: float, near: float, far: float, colour: Colour) -> None:
        """Paint on the road."""
        self.painter.polygon(
            [self.at(left, 0.0, near), self.at(right, 0.0, near), self.at(right, 0.0, far), self.at(left, 0.0, far)],
            colour,
            STREET,
        )

    def facades(self, side: float, setback: float, height: float, far: float = 9.0) -> None:
        """A row of houses along one side, painted from far to near."""
        painter, cuts, away = self.painter, list[tuple[float, float]](), 0.75
        while away < far:
            ahead = away * painter.between(1.35, 1.9)
            cuts.append((away, ahead))
            away = ahead
        for near, ahead in cuts[::-1]:
            depth = min(0.08 * near, 0.6)
            wall = painter.tone(pick(painter, WALLS), depth, 0.08)
            if side * painter.light > 0:
                wall = mix(wall, (0.12, 0.1, 0.28), 0.3)
            self._facade(side * setback, height * painter.between(0.65, 1.15), near, ahead, wall, depth)

    def _facade(self, across: float, height: float, near: float, far: float, wall: Colour, depth: float) -> None:
        painter = self.painter

        def quad(low: float, high: float, front: float, back: float, colour: Colour) -> None:
            painter.polygon(
                [
                    self.at(across, low, front),
                    self.at(across, high, front),
                    self.at(across, high, back),
                    self.at(across, low, back),
                ],
                colour,
                BUILDINGS,
            )

        quad(0.0, height, near, far, wall)
        # the gable seen between this house and a lower one behind it
        outer = across * 3
        painter.polygon(
            [
                self.at(across, 0.0, near),
                self.at(across, height, near),
                self.at(outer, height, near),
                self.at(outer, 0.0, near),
            ],
            mix(wall, (0.1, 0.1, 0.2), 0.2),
            BUILDINGS,
        )
        floors, bays = max(2, round(height / 0.2)), 4
        lit = painter.chance(painter.mood.lamps)
        for floor in range(floors):
            low = height * (floor + (0.12 if floor == 0 else 0.3)) / (floors + 0.2)
            high = height * (floor + 0.82) / (floors + 0.2)
            colour = painter.tone(PANE, depth) if floor else mix(painter.tone(pick(painter, CARS), depth), wall, 0.4)
            for bay in range(bays):
                # equal widths in the world: interpolate 1 / away
                front, back = (
                    1 / (1 / near + (1 / far - 1 / near) * share)
                    for share in ((bay + 0.25) / bays, (bay + 0.75) / bays)
                )
                glow = LAMP if lit and painter.chance(0.5) else colour
                quad(low, high, front, back, glow)
        quad(height * 0.97, height, near, far, mix(wall, (0.2, 0.15, 0.2), 0.4))

    def lamp(self, side: float, away: float) -> None:
        """A lamp post."""
        painter, colour = self.painter, mix(self.painter.tone(ROAD), (0.1, 0.1, 0.15), 0.5)
        foot, head = self.at(side * 1.15, 0.0, away), self.at(side * 1.15, 0.42, away)
        arm = self.at(side * 0.85, 0.43, away)
        painter.stroke([foot, head, arm], 0.012 / away, colour, STREET)
        painter.ellipse(*arm, 0.022 / away, 0.012 / away, LAMP if painter.mood.lamps > 0.1 else PAINT, STREET)

    def car(self, across: float, away: float) -> None:
        """A car from behind: body, cabin, window, lights, wheels and its shadow."""
        painter, body = self.painter, self.painter.tone(pick(self.painter, CARS), min(0.06 * away, 0.5), 0.1)
        x, y = self.at(across, 0.0, away)
        w = 0.3 * self.width / away
        h = w * painter.between(0.62, 0.85)
        dark = mix(body, (0.05, 0.05, 0.1), 0.75)
        painter.ellipse(x, y, 0.58 * w, 0.1 * h, mix(painter.tone(ROAD), BLACK, 0.45), STREET)
        for k in (-1, 1):
            painter.box(x + k * 0.38 * w - 0.09 * w, y - 0.25 * h, x + k * 0.38 * w + 0.09 * w, y, dark, STREET)
        painter.polygon(
            [(x - 0.36 * w, y - 0.55 * h), (x - 0.26 * w, y - h), (x + 0.26 * w, y - h), (x + 0.36 * w, y - 0.55 * h)],
            body,
            STREET,
        )
        painter.polygon(
            [
                (x - 0.3 * w, y - 0.58 * h),
                (x - 0.22 * w, y - 0.92 * h),
                (x + 0.22 * w, y - 0.92 * h),
                (x + 0.3 * w, y - 0.58 * h),
            ],
            mix(PANE, painter.mood.horizon, 0.35),
            STREET,
        )
        painter.box(x - 0.5 * w, y - 0.58 * h, x + 0.5 * w, y - 0.12 * h, body, STREET)
        painter.box(x - 0.5 * w, y - 0.22 * h, x + 0.5 * w, y - 0.12 * h, dark, STREET)
        for k in (-1, 1):
            painter.box(
                x + k * 0.41 * w - 0.07 * w,
                y - 0.5 * h,
                x + k * 0.41 * w + 0.07 * w,
                y - 0.36 * h,
                hexed("d84a3a"),
                STREET,
            )
