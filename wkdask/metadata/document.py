"""JSON documents as frozen models that give back what they do not understand.

A model knows some keys of a JSON object; all others stay where they stood, with their values untouched. Reading and writing
without a change therefore gives an equal document.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from math import isfinite
from typing import Annotated, Any, ClassVar, NoReturn, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    StrictInt,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails, PydanticCustomError

from wkdask.errors import InputError, MetadataError

DEEPEST = 100
"""Levels of nesting that a document may have."""


def _number(value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or (isinstance(value, float) and not isfinite(value)):
        raise PydanticCustomError("number", "a number")
    return value


Number = Annotated[Any, BeforeValidator(_number)]
"""An int or a finite float, kept as it is: 0 stays 0 and 0.0 stays 0.0."""
Int = Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)]
Count = Annotated[StrictInt, Field(ge=0, lt=2**63)]
Positive = Annotated[StrictInt, Field(ge=1, lt=2**31)]


class Document(BaseModel):
    """A JSON object: attributes in snake case, keys in camel case, unknown keys kept.

    Examples
    --------
    >>> class Colour(Document):
    ...     is_inverted: bool = False
    >>> Colour.from_dict({"isInverted": True, "else": 1}).to_dict()
    {'isInverted': True, 'else': 1}
    """

    model_config = ConfigDict(
        extra="allow", frozen=True, alias_generator=to_camel, populate_by_name=True, protected_namespaces=()
    )

    always_written: ClassVar[frozenset[str]] = frozenset()
    """Keys that are written even where they have their default."""

    _stood: tuple[str, ...] = PrivateAttr(default=())

    def __init__(self, **values: Any) -> None:
        """Make a model of attributes; wrong ones raise InputError."""
        try:
            super().__init__(**values)
        except ValidationError as error:
            _fail(InputError, f"{type(self).__name__}(...)", error)

    # Validation then does not go through __init__, which would lose its context.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="wrap")
    @classmethod
    def _remember_order(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        if not isinstance(data, dict | cls):
            raise PydanticCustomError("object", "an object")
        model = handler(data)
        if info.context is not None and isinstance(data, dict):
            model._stood = tuple(data)
        return model

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "the document") -> Self:
        """Return the model of a parsed JSON object.

        Parameters
        ----------
        data
            As ``json.loads`` gives it; copied.
        where
            What messages call it.

        Raises
        ------
        MetadataError
            It is not what it should be; the message names the place in it.
        """
        check_depth(data, where)
        return cls._validated(copy.deepcopy(data), where, MetadataError)

    @classmethod
    def _validated(cls, data: Any, where: str, kind: type[InputError | MetadataError]) -> Self:
        try:
            return cls.model_validate(data, by_alias=True, by_name=False, context={"document": True})
        except ValidationError as error:
            _fail(kind, where, error)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object, known keys in their usual order and all others where they stood."""
        known: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            alias, value = field.alias or name, getattr(self, name)
            default = field.get_default(call_default_factory=True)
            if alias in self._stood or alias in self.always_written or value != default:
                known[alias] = self._plain(name, value)
        return _woven(known, self.model_extra or {}, self._stood)

    def _plain(self, name: str, value: Any) -> Any:
        """Return the JSON of an attribute; for models that encode one in a way of its own."""
        return plain(value)

    def updated(self, **changes: Any) -> Self:
        """Return a copy with other attributes; None takes an optional one away.

        Raises
        ------
        InputError
            There is no such attribute, or its value is not allowed.

        Examples
        --------
        >>> class Colour(Document):
        ...     alpha: Number = None
        >>> Colour(alpha=1).updated(alpha=0.5).alpha
        0.5
        """
        raw = self.to_dict()
        fields = type(self).model_fields
        for name, value in changes.items():
            if name not in fields:
                raise InputError(f"{type(self).__name__} has no attribute {name!r}; it has {', '.join(fields)}.")
            key = fields[name].alias or name
            raw.pop(key, None) if value is None else raw.update({key: plain(value)})
        return self._validated(copy.deepcopy(raw), type(self).__name__, InputError)

    def __eq__(self, other: object) -> bool:
        """Two models are equal when their JSON objects are."""
        return self.to_dict() == other.to_dict() if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        """Hash what never differs between equal models."""
        return hash((type(self), *(name for name in type(self).model_fields)))


def plain(value: Any) -> Any:
    """Return a value as JSON has it: models as objects, tuples as lists, enums as their text."""
    if isinstance(value, Document):
        return value.to_dict()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _woven(known: dict[str, Any], others: dict[str, Any], stood: Sequence[str]) -> dict[str, Any]:
    """Return all keys: each unknown one behind the key that stood before it."""
    behind: dict[str | None, list[str]] = {}
    last: str | None = None
    for key in stood:
        if key in known:
            last = key
        elif key in others:
            behind.setdefault(last, []).append(key)
    woven = {key: others[key] for key in behind.get(None, ())}
    for key, value in known.items():
        woven[key] = value
        woven.update({other: others[other] for other in behind.get(key, ())})
    return woven | {key: value for key, value in others.items() if key not in woven}


def load_json(data: bytes, where: str) -> Any:
    """Return what JSON bytes say.

    Raises
    ------
    MetadataError
        They are no UTF-8, no JSON (NaN and infinity are none), too deeply nested, or have numbers that no one can mean.

    Examples
    --------
    >>> load_json(b'{"a": 1}', "a.json")
    {'a': 1}
    """
    try:
        document = json.loads(bytes(data).decode("utf-8-sig"), parse_constant=_no_constant, parse_float=_finite)
    except UnicodeDecodeError as error:
        raise MetadataError(f"{where} is not UTF-8 text: byte {error.start} is wrong. Restore it from a copy.") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        size = f"it has {len(data)} bytes"
        raise MetadataError(f"{where} is not JSON: {error.msg} at {place}; {size}. Restore it from a copy.") from None
    except RecursionError:
        raise _too_deep(where) from None
    except ValueError as error:
        raise MetadataError(f"{where} has a number that is not usable: {error}. Correct it.") from None
    check_depth(document, where)
    return document


def dump_json(document: Any, where: str = "the document") -> bytes:
    r"""Return a document as UTF-8 with 4 spaces of indentation.

    Raises
    ------
    MetadataError
        It has NaN, infinity or something that JSON can not say.

    Examples
    --------
    >>> dump_json({"a": 1})
    b'{\n    "a": 1\n}'
    """
    try:
        try:
            return json.dumps(document, indent=4, ensure_ascii=False, allow_nan=False).encode()
        except UnicodeEncodeError:
            return json.dumps(document, indent=4, allow_nan=False).encode()
    except RecursionError:
        raise _too_deep(where) from None
    except (TypeError, ValueError) as error:
        raise MetadataError(f"{where} can not be written as JSON: {error}. Take that value out.") from None


def check_depth(document: Any, where: str) -> None:
    """Raise MetadataError where objects and lists are nested more than 100 deep."""
    level = [document]
    for _ in range(DEEPEST):
        level = [item for parent in level for item in _children(parent)]
        if not level:
            return
    raise _too_deep(where)


def _children(value: Any) -> list[Any]:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [item for item in items if isinstance(item, dict | list | tuple)]


def _too_deep(where: str) -> MetadataError:
    return MetadataError(f"{where} is nested more than {DEEPEST} levels deep; no such document is. Restore it from a copy.")


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{shorten(text)} is too large")
    return number


def _fail(kind: type[InputError | MetadataError], where: str, error: ValidationError) -> NoReturn:
    problems = error.errors(include_url=False)
    more = f" There are {len(problems) - 1} more such problems." if len(problems) > 1 else ""
    remedy = "Correct the document." if kind is MetadataError else "Give another value."
    raise kind(f"{where}: {_problem(problems[0])}.{more} {remedy}") from None


_PLAINER = {
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "an object",
    "int_type": "a whole number",
    "string_type": "a text",
    "bool_type": "true or false",
}


def _problem(details: ErrorDetails) -> str:
    path = json_path(details["loc"])
    if details["type"] == "missing":
        parent, key = json_path(details["loc"][:-1]), details["loc"][-1]
        if isinstance(key, int):
            return f"{parent} is too short: it has no item {key}"
        return f"{parent or 'the top level'} has no key '{key}', which is required"
    if details["type"] == "found":
        return f"{path}: {details['msg']}" if path else details["msg"]
    expected = _PLAINER.get(details["type"], details["msg"].removeprefix("Input should be "))
    return f"{path or 'the top level'} is {shorten(details['input'])}, expected {expected}"


def json_path(location: Sequence[str | int]) -> str:
    """Return a place in a document as people write it.

    Examples
    --------
    >>> json_path(("dataLayers", 0, "boundingBox", "width"))
    'dataLayers[0].boundingBox.width'
    """
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path


def shorten(value: Any) -> str:
    """Return a value, or what it is, in few characters.

    Examples
    --------
    >>> shorten([1, 2, 3]), shorten({}), shorten(True)
    ('a list of 3', 'an object of 0 keys', 'true')
    """
    if isinstance(value, dict):
        return f"an object of {len(value)} keys"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def listed(names: Iterable[str]) -> str:
    """Return names for a message, not more than 20 of them.

    Examples
    --------
    >>> listed(["a", "b"]), listed([])
    ('a, b', 'none')
    """
    names = list(names)
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return (", ".join(names[:20]) or "none") + more
