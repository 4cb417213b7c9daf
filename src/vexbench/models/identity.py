"""What tells two networks of equal structure and weights apart: their code and their settings."""

import inspect
from collections.abc import Iterator
from functools import cache
from types import BuiltinFunctionType, CodeType, FunctionType
from typing import Final

from torch import nn

DESCRIBED: Final = ("torch", "vexbench")
"""Packages whose modules say by name and `repr` all that they do."""
RELEASED: Final = (*DESCRIBED, "torchvision", "timm", "builtins")
"""Packages in which the same name means the same code."""


def describe(module: nn.Module) -> Iterator[str]:
    """One line for each part: its class, its settings, and the source of the functions that no package released."""
    for name, part in module.named_modules():
        kind = type(part)
        if _package(kind) not in DESCRIBED:
            yield repr((name, kind.__qualname__, list(_settings(part)), list(_functions(kind))))


def _package(kind: type) -> str:
    return kind.__module__.partition(".")[0]


def _settings(part: nn.Module) -> Iterator[tuple[str, object]]:
    for name, value in sorted(vars(part).items()):
        # a network that is being trained, and one that keeps something in a private place, is still the same
        if name == "training" or name.startswith("_"):
            continue
        if isinstance(value, FunctionType):
            yield name, _code(value)
        elif isinstance(value, BuiltinFunctionType | type):
            yield name, value.__qualname__
        elif _plain(value):
            yield name, value


def _plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    return value is None or isinstance(value, int | float | str)


def _functions(kind: type) -> Iterator[tuple[str, object]]:
    for base in kind.__mro__:
        if _package(base) not in RELEASED:
            yield from ((name, _code(value)) for name, value in vars(base).items() if isinstance(value, FunctionType))


@cache  # a file that is edited while its network is at work says nothing about the network
def _code(function: FunctionType) -> object:
    """The source, which is the same in all Pythons; bytecode where there is none, or lambdas may share a line."""
    if function.__name__ != "<lambda>":
        try:
            return inspect.getsource(function)
        except (OSError, SyntaxError):
            pass
    return _bytecode(function.__code__)


def _bytecode(code: CodeType) -> object:
    # a code object's repr holds its address, a set's its order in this process
    constants = [
        _bytecode(value)
        if isinstance(value, CodeType)
        else sorted(map(repr, value))
        if isinstance(value, frozenset)
        else repr(value)
        for value in code.co_consts
    ]
    return code.co_code, code.co_names, constants
