"""The study as one page to read, and its charts and tables as files; needs the store alone."""

from vexbench.report.files import write_files
from vexbench.report.page import report

__all__ = ["report", "write_files"]
