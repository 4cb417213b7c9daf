"""vexbench: which visual explanation of a convolutional network can be trusted?

Names are loaded when they are first asked for, so that importing the package and its command line stays quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vexbench.adapters import from_captum, from_pytorch_grad_cam
    from vexbench.bench.config import StudyConfig
    from vexbench.bench.result import Result
    from vexbench.bench.run import run
    from vexbench.errors import NotApplicable, VexbenchError
    from vexbench.explaining import evaluate, explain
    from vexbench.models.base import Classifier
    from vexbench.models.checkpoint import demo_classifier, load_classifier
    from vexbench.models.train import TrainConfig, train
    from vexbench.probe import Probe
    from vexbench.registry import Choice, DatasetEntry, MethodEntry, MetricEntry, dataset, method, metric
    from vexbench.synthesising import synthesise

    def methods() -> dict[str, MethodEntry]:
        """All methods by id: built in, registered, and from installed plug-ins."""
        ...

    def metrics() -> dict[str, MetricEntry]:
        """All metrics by id."""
        ...

    def datasets() -> dict[str, DatasetEntry]:
        """All datasets by id."""
        ...


_HOMES = {
    "Choice": "registry",
    "Classifier": "models.base",
    "NotApplicable": "errors",
    "Probe": "probe",
    "Result": "bench.result",
    "StudyConfig": "bench.config",
    "TrainConfig": "models.train",
    "VexbenchError": "errors",
    "dataset": "registry",
    "demo_classifier": "models.checkpoint",
    "evaluate": "explaining",
    "explain": "explaining",
    "from_captum": "adapters",
    "from_pytorch_grad_cam": "adapters",
    "load_classifier": "models.checkpoint",
    "method": "registry",
    "metric": "registry",
    "run": "bench.run",
    "synthesise": "synthesising",
    "train": "models.train",
}

__all__ = [
    "Choice",
    "Classifier",
    "NotApplicable",
    "Probe",
    "Result",
    "StudyConfig",
    "TrainConfig",
    "VexbenchError",
    "dataset",
    "datasets",
    "demo_classifier",
    "evaluate",
    "explain",
    "from_captum",
    "from_pytorch_grad_cam",
    "load_classifier",
    "method",
    "methods",
    "metric",
    "metrics",
    "run",
    "synthesise",
    "train",
]


_LISTS = ("datasets", "methods", "metrics")


def __getattr__(name: str) -> Any:
    if name in _LISTS:
        return import_module(f"vexbench.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'vexbench' has no attribute '{name}'")
    return getattr(import_module(f"vexbench.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
