"""What a result was made with."""

import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = ("vexbench", "torch", "torchvision", "timm", "numpy", "polars", "zarr", "pillow")


def versions() -> dict[str, str]:
    """Installed versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def provenance(device: str) -> dict[str, Any]:
    """Versions, machine and time of a run."""
    return {
        "versions": versions(),
        "device": device,
        "machine": f"{platform.system()} {platform.machine()}",
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
