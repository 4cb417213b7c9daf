"""Our work and the field's libraries' beside each other: prints a table, and writes docs/results/peers.md.

    python benchmarks/peers.py            the whole
    python benchmarks/peers.py --quick    times alone, one round of fewer images, of what has an aim: no page
    python benchmarks/peers.py --rows cams ig

Numbers of all rounds go to bench-results/, as JSON.
"""

import argparse
import json
import os
import time
from pathlib import Path

import contests_maps
import contests_metrics
import contests_study
from contest import HEAD, Contest, Row, conditions, line, measured, peak, peak_apart, root

CONTESTS = (*contests_maps.CONTESTS, *contests_metrics.CONTESTS, *contests_study.CONTESTS)


def page(rows: list[Row], load: str, command: str) -> str:
    notes = [f"- {row.contest.work}: {row.contest.note}" for row in rows if row.contest.note]
    aims = [row for row in rows if row.contest.aim is not None]
    met = sum(row.met == "yes" for row in aims)
    return "\n".join(
        [
            "# Time against the peers",
            "",
            f"`{command}`: {conditions()}; {load}.",
            "",
            "In units of one bare plain fp32 forward pass of the same batch, measured before and after every piece of",
            "work; the two sides take turns in one process, and medians of the rounds are told. Each peer at the batch",
            "size that ours has, where it takes one. Agreement: the least correlation r of any image's maps, or the",
            "largest difference Δ of any image's scores, at matched settings (docs/peers.md and docs/metric-peers.md say",
            "where libraries differ and why). Memory: what the work adds to a process's peak, the network and a bare pass",
            "being there already. Bare passes and peers run as torch does by itself, ours with freed memory kept at hand",
            "(docs/decisions/0014), which makes no difference to a bare pass of 2 to 16 of these images.",
            "",
            HEAD,
            *map(line, rows),
            "",
            f"{met} of {len(aims)} aims met.",
            "",
            *notes,
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under three minutes: no agreement, no memory")
    parser.add_argument("--rows", nargs="*", choices=[contest.key for contest in CONTESTS], help="only these")
    parser.add_argument("--no-memory", action="store_true", help="do not measure peak memory")
    parser.add_argument("--peak", nargs=3, metavar=("ROW", "SIDE", "IMAGES"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    known = {contest.key: contest for contest in CONTESTS}
    if arguments.peak:
        key, side, count = arguments.peak
        print(peak(known[key], side, int(count)))
        return
    begun, busy = time.perf_counter(), os.getloadavg()[0]
    rows = list[Row]()
    print(HEAD, flush=True)
    for contest in CONTESTS:
        wanted = contest.key in arguments.rows if arguments.rows else contest.aim or not arguments.quick
        if not wanted:
            continue
        rows.append(raced(contest, quick=arguments.quick, memory=not (arguments.quick or arguments.no_memory)))
        print(line(rows[-1]), flush=True)
    minutes = (time.perf_counter() - begun) / 60
    load = (
        f"load of the machine {busy:.1f} at the start and {os.getloadavg()[0]:.1f} at the end, {os.cpu_count()} cores"
    )
    print(f"\n{minutes:.1f} minutes; {load}")
    if arguments.quick:
        print(
            "With so few images, work done once for all of them (MPRT's random networks) is dear: the whole run tells."
        )
    whole = not (arguments.quick or arguments.rows)
    folder = root() / "bench-results"
    folder.mkdir(exist_ok=True)
    name = "peers" if whole else "peers-quick" if arguments.quick else "peers-rows"
    told = {"conditions": conditions(), "load": load, "minutes": minutes, "rows": [row.as_json() for row in rows]}
    (folder / f"{name}.json").write_text(json.dumps(told, indent=2, ensure_ascii=False), encoding="utf-8")
    if whole:
        command = "python benchmarks/peers.py" + (" --no-memory" if arguments.no_memory else "")
        place = root() / "docs/results/peers.md"
        place.write_text(page(rows, load, command).rstrip() + "\n", encoding="utf-8")


def raced(contest: Contest, *, quick: bool, memory: bool) -> Row:
    rounds, count = (1, contest.few) if quick else (contest.rounds, contest.images)
    row = measured(contest, rounds=rounds, count=count, compare=not quick)
    if memory and contest.memory:
        row.memory = {side: peak_apart(str(Path(__file__)), contest, side, row.images) for side in ("ours", "theirs")}
    return row


if __name__ == "__main__":
    main()
