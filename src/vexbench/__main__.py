"""``python -m vexbench``."""

from vexbench.cli import main

main()
