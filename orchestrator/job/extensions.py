"""What can be added to: by name, this project's own and what installed packages bring.

A package adds to a registry by an entry point of its group, as any ecosystem does it::

    [project.entry-points."scaling_orchestrator.jobs"]
    rank = "my_package.rank:JOB"

Ours are looked up first: an installed package cannot replace one.
Nothing is imported before it is asked for by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pkgutil import resolve_name
from typing import Any, TypeVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_after_validator_function

from orchestrator.job.imports import importing

T = TypeVar("T")


class ExtensionError(ValueError):
    """What an installed package says that it adds cannot be used. One line."""


class ExtensionPoint(Mapping[str, T]):
    """All things of one sort, by name. Of ours, what is heavy to import is given as ``module:name``."""

    def __init__(self, group: str, sort: type[T], ours: Mapping[str, str | T]):
        self.group = group
        self.ours = ours
        self.loaded: dict[str, T] = {}
        """What has been asked for."""
        self._sort = sort

    @cached_property
    def _theirs(self) -> Mapping[str, EntryPoint]:
        # Reads every installed package's metadata, which takes a tenth of a second: only once ours do not do.
        return {point.name: point for point in entry_points(group=self.group) if point.name not in self.ours}

    def __contains__(self, name: object) -> bool:
        return name in self.ours or name in self._theirs

    def __iter__(self) -> Iterator[str]:
        yield from (*self.ours, *self._theirs)

    def __len__(self) -> int:
        return len(self.ours) + len(self._theirs)

    def __getitem__(self, name: str) -> T:
        """Raises KeyError for an unknown name, ExtensionError where a package does not give what it says."""
        if name not in self.loaded:
            self.loaded[name] = self._load(name)
        return self.loaded[name]

    def _load(self, name: str) -> T:
        if name in self.ours:
            given = self.ours[name]
            with importing():
                extension = resolve_name(given) if isinstance(given, str) else given
            assert isinstance(extension, self._sort), f"{given} is no {self._sort.__name__}"
            return extension
        point = self._theirs[name]
        package = point.dist.name if point.dist else point.module
        try:
            extension = point.load()
        except (ImportError, AttributeError) as error:
            raise ExtensionError(f"{self.group}: {name} of the package {package} cannot be loaded: {error}") from error
        if not isinstance(extension, self._sort):
            raise ExtensionError(
                f"{self.group}: {name} of the package {package} is a {type(extension).__name__}: "
                f"{point.value} must be a {self._sort.__name__}"
            )
        return extension


@dataclass(frozen=True, eq=False)
class KnownName:
    """Of a config's field: its value is one of `names`, or of `others`; the error, and the schema, say which."""

    names: ExtensionPoint[Any]
    others: tuple[str, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "enum": [*self.others, *self.names]}

    def _check(self, value: str) -> str:
        if value in self.others or value in self.names:
            return value
        *first, last = map(repr, (*self.others, *self.names))
        expected = f"{', '.join(first)} or {last}"
        raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected})


def known(names: ExtensionPoint[Any], *others: str) -> KnownName:
    """What annotates such a field."""
    return KnownName(names, others)


class Lazy:
    """The function that ``module:name`` names, whose module is imported when it is first called."""

    def __init__(self, target: str):
        self.module = target.partition(":")[0]
        self.target = target

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        with importing():
            function = resolve_name(self.target)
        return function(*arguments, **named)

    def __repr__(self) -> str:
        return f"lazy({self.target!r})"


def lazy(target: str) -> Callable[..., Any]:
    """See :class:`Lazy`."""
    return Lazy(target)
