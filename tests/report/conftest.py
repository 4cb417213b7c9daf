from pathlib import Path

import pytest
from synthetic import write_study

from vexbench.report.page import render
from vexbench.results.frame import Study, load
from vexbench.stats.summary import Summary, summarise


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("studies") / "full")


@pytest.fixture(scope="session")
def study(folder: Path) -> Study:
    return load(folder)


@pytest.fixture(scope="session")
def summary(study: Study) -> Summary:
    return summarise(study.groups[0])


@pytest.fixture(scope="session")
def page(study: Study) -> str:
    return render(study)
