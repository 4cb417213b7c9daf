"""Methods, metrics and datasets by name; a look-up that misses says what it might have meant."""

import inspect
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Literal, TypeVar, final

from vexbench.errors import VexbenchError, unknown

NEEDS = ("maps", "probe", "regions", "cues", "references", "explain")
"""The closed set of what a metric may ask for."""

TYPE_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a name"}


@final
@dataclass(frozen=True)
class Choice:
    """A registered name with its parameters: a value that hashes, pickles, prints itself and names files.

    >>> Choice.of("rise", masks=4000)
    Choice.of('rise', masks=4000)
    >>> Choice.of("rise", masks=4000).digest == Choice.of("rise", masks=8000).digest
    False
    """

    name: str
    items: tuple[tuple[str, Any], ...] = ()
    version: int = 1
    source: str = ""

    @classmethod
    def of(cls, name: str, /, **params: Any) -> "Choice":
        """Bind parameters to a name."""
        return cls(name, tuple(sorted(params.items())))

    @property
    def params(self) -> dict[str, Any]:
        """The bound parameters as a dict."""
        return dict(self.items)

    @property
    def digest(self) -> str:
        """Eight characters that change with any parameter, the version, and the text of a user's function."""
        told = [self.name, self.params, self.version, *filter(None, [self.source])]
        return _short(json.dumps(told, sort_keys=True, default=str))

    @property
    def label(self) -> str:
        """The parameters as a person writes them: ``patch=15, stride=8``."""
        return ", ".join(f"{key}={value}" for key, value in self.items)

    def __repr__(self) -> str:
        params = "".join(f", {key}={value!r}" for key, value in self.items)
        return f"Choice.of({self.name!r}{params})"


def _short(text: str) -> str:
    return blake2b(text.encode(), digest_size=4).hexdigest()


@dataclass(frozen=True)
class Entry:
    """What the registry knows of a method, a metric or a dataset; None or () is what does not apply.

    A method's `signed` maps carry evidence against the class as negative values, and its `needs` are words on the
    networks it is defined for. A metric's `family` is its axis, its `direction` says whether higher or lower is better,
    and its `needs` are its required parameters, out of `NEEDS`.
    """

    id: str
    title: str
    family: str
    paper: str
    function: Callable[..., Any] = field(repr=False)
    version: int = 1
    signed: bool | None = None
    direction: Literal["higher", "lower"] | None = None
    range: tuple[float, float] | None = None
    needs: tuple[str, ...] = ()

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameter names with their defaults, read off the function's keyword-only arguments."""
        return {
            name: None if parameter.default is parameter.empty else parameter.default
            for name, parameter in inspect.signature(self.function).parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY
        }

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    @property
    def source(self) -> str:
        """Changes with the function's text where it is a user's, which is edited as one goes; ours have versions."""
        if self.function.__module__.partition(".")[0] == __package__:
            return ""
        try:
            return _short(inspect.getsource(self.function))
        except (OSError, TypeError):  # typed in, or of no file
            return ""

    def bind(self, **params: Any) -> Choice:
        """Check parameters and complete them with the defaults.

        Raises
        ------
        VexbenchError
            A parameter that does not exist, or a value of another type than the default's.
        """
        defaults = self.parameters
        for name in params:
            if name not in defaults:
                raise unknown(f"parameter of {self.id}", name, defaults)
        given = {name: self._typed(name, value, defaults[name]) for name, value in params.items()}
        return Choice(self.id, tuple(sorted({**defaults, **given}.items())), self.version, self.source)

    def _typed(self, name: str, value: Any, default: Any) -> Any:
        """The value as the default's type, so that 20 and 20.0 are one choice, and a path is its name."""
        kind = type(default)
        if kind is str and isinstance(value, Path):
            return str(value)
        if default is None or type(value) is kind:
            return value
        if kind in (int, float) and type(value) in (int, float) and (kind is float or float(value).is_integer()):
            return kind(value)
        raise VexbenchError(
            f"{self.id}: parameter '{name}' must be {TYPE_NAMES.get(kind, kind.__name__)}, not {value!r}."
        )


@final
@dataclass(frozen=True)
class MethodEntry(Entry):
    """A method."""

    signed: bool = False


@final
@dataclass(frozen=True)
class MetricEntry(Entry):
    """A metric."""

    direction: Literal["higher", "lower"] = "higher"
    range: tuple[float, float] = (0.0, 1.0)

    @property
    def arrow(self) -> str:
        """↑ where higher is better, ↓ where lower is."""
        return "↑" if self.direction == "higher" else "↓"


@final
@dataclass(frozen=True)
class DatasetEntry(Entry):
    """A dataset: its function returns a `Dataset`."""


E = TypeVar("E", bound=Entry)
F = TypeVar("F", bound=Callable[..., Any])


@final
class Registry(Mapping[str, E], Generic[E]):
    """Entries by id, in the order of their families, filled by importing the package and the installed plug-ins.

    `elsewhere` is a registry of the same ids for another purpose: a name of that one is refused with the `hint`.
    """

    def __init__(
        self, kind: str, package: str, families: tuple[str, ...], elsewhere: "Registry[E] | None" = None, hint: str = ""
    ) -> None:
        self.kind, self.package, self._families, self._entries = kind, package, families, dict[str, E]()
        self._elsewhere, self._hint = elsewhere, hint

    def _load(self) -> dict[str, E]:
        import_module(self.package)
        _load_plugins()
        return self._entries

    def __getitem__(self, name: str) -> E:
        if name not in self._entries and name not in self._load():
            if self._elsewhere is not None and name in self._elsewhere:
                raise VexbenchError(f"'{name}' {self._hint}")
            raise unknown(self.kind, name, self._entries)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._load()

    def __iter__(self) -> Iterator[str]:
        entries = self._load()
        rank = {family: position for position, family in enumerate(self._families)}
        return iter(sorted(entries, key=lambda name: rank.get(entries[name].family, len(rank))))

    def __len__(self) -> int:
        return len(self._load())

    def add(self, entry: E) -> None:
        """Register an entry; a second one of the same id from another place is an error."""
        known = self._entries.get(entry.id)
        if known and known.function.__module__ != entry.function.__module__:
            raise VexbenchError(
                f"{self.kind} '{entry.id}' is registered twice, in {known.function.__module__} and "
                f"{entry.function.__module__}; rename one."
            )
        self._entries[entry.id] = entry


def _load_plugins() -> None:
    """Import the installed plug-ins; a broken one is named, and takes nothing else with it."""
    for plugin in entry_points(group="vexbench.plugins"):
        try:
            plugin.load()
        except Exception as error:  # noqa: BLE001  it is somebody else's code
            told = f"{type(error).__name__}: {error}"
            warnings.warn(f"the plug-in '{plugin.name}' ({plugin.value}) cannot be loaded: {told}", stacklevel=2)


FAMILIES = ("gradient", "path", "cam", "perturbation", "synthesis", "attention", "propagation", "shapley", "control")
SYNTHESES = Registry[MethodEntry]("synthesis", "vexbench.methods", ("synthesis",))
METHODS = Registry[MethodEntry](
    "method",
    "vexbench.methods",
    FAMILIES,
    SYNTHESES,
    "makes an image of a class, not a map of an image: use vb.synthesise() or `vexbench synthesise`.",
)
METRICS = Registry[MetricEntry](
    "metric",
    "vexbench.metrics",
    ("faithfulness", "localisation", "robustness", "complexity", "randomisation", "axiomatic", "cost"),
)
DATASETS = Registry[DatasetEntry]("dataset", "vexbench.datasets", ("drawn", "photographs"))


@final
class Listing(ModuleType):
    """A package that lists its registry when called: ``vb.methods`` is the folder, ``vb.methods()`` the list."""

    def __call__(self) -> dict[str, Any]:
        """The package's entries by id, family by family."""
        listed = {**{registry.package: registry for registry in (METHODS, METRICS, DATASETS)}[self.__name__]}
        if self.__name__ != METHODS.package:
            return listed
        rank = {family: place for place, family in enumerate(FAMILIES)}
        both = {**listed, **SYNTHESES}
        return {name: both[name] for name in sorted(both, key=lambda name: rank.get(both[name].family, len(rank)))}


def method(
    *, family: str, title: str, paper: str, signed: bool = False, needs: tuple[str, ...] = (), version: int = 1
) -> Callable[[F], F]:
    """Register a function from a probe to maps as a method; its name is the id."""

    def register(function: F) -> F:
        entry = MethodEntry(function.__name__, title, family, paper, function, version, signed=signed, needs=needs)
        METHODS.add(entry)
        return function

    return register


def synthesis(*, title: str, paper: str, needs: tuple[str, ...] = (), version: int = 1) -> Callable[[F], F]:
    """Register a function from a probe to images of its targets, step by step; its name is the id.

    It yields (share of the work done, images); the last images are the result.
    """

    def register(function: F) -> F:
        SYNTHESES.add(MethodEntry(function.__name__, title, "synthesis", paper, function, version, needs=needs))
        return function

    return register


def metric(
    *,
    family: str,
    title: str,
    paper: str,
    direction: Literal["higher", "lower"],
    range: tuple[float, float] = (0.0, 1.0),
    version: int = 1,
) -> Callable[[F], F]:
    """Register a function to one score per image as a metric; its required parameters are its needs."""
    if direction not in ("higher", "lower"):
        raise VexbenchError(f"a metric's direction is 'higher' or 'lower', whichever is better, not '{direction}'.")

    def register(function: F) -> F:
        parameters = inspect.signature(function).parameters.values()
        needs = tuple(parameter.name for parameter in parameters if parameter.kind is not parameter.KEYWORD_ONLY)
        if alien := set(needs) - set(NEEDS):
            raise VexbenchError(
                f"metric '{function.__name__}' asks for {', '.join(sorted(alien))}; known needs: {NEEDS}."
            )
        entry = MetricEntry(function.__name__, title, family, paper, function, version, None, direction, range, needs)
        METRICS.add(entry)
        return function

    return register


def dataset(*, family: str, title: str, paper: str, version: int = 1) -> Callable[[F], F]:
    """Register a function to a `Dataset`; its name is the id."""

    def register(function: F) -> F:
        DATASETS.add(DatasetEntry(function.__name__, title, family, paper, function, version))
        return function

    return register
