"""What users say of a store: credentials, endpoint, region. Never shown, and not readable in a pickle."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from wkdask.errors import InputError

PLAIN = frozenset(
    {"anon", "endpoint_url", "region_name", "use_ssl", "profile", "project", "requester_pays", "fo", "path", "version"}
)
"""Names of options whose values are no secrets, so that messages may hold them."""

S3_ALONE = frozenset({"key", "secret", "region_name", "profile", "use_ssl", "config_kwargs", "s3_additional_kwargs"})
NOT_OF = {
    "s3": frozenset({"project", "access", "consistency", "username", "password", "headers", "cookies", "auth"}),
    "gcs": S3_ALONE | {"client_kwargs", "username", "password", "headers", "cookies", "auth"},
    "": S3_ALONE | {"project", "access", "consistency"},
    "http": S3_ALONE | {"project", "access", "consistency", "token", "endpoint_url", "requester_pays"},
}
"""Options that other kinds of store know, so that what is said for all is left out where it can not be meant."""

SHORTEST_SECRET = 4
"""Characters that a value must have to be struck out of messages; shorter ones occur in any text."""


class Options(Mapping[str, Any]):
    """Options for fsspec's file system, whose values show in no repr and whose pickle can not be read by eye.

    Workers get them in the pickles of what they are to do. Those are masked, not enciphered: who may run a task may use the
    credentials that it needs. Where that is too much, give workers their own by environment or role, and no options here.

    Parameters
    ----------
    given
        Names and values.
    links
        Options for other stores that documents link to, by what their URLs begin with. They say how to get to other places, so
        that options with other links are equal.

    Examples
    --------
    >>> options = Options({"key": "me", "secret": "s3cret"})
    >>> options, options["secret"]
    (<2 options of a store>, 's3cret')
    >>> b"s3cret" in pickle.dumps(options)
    False
    """

    __slots__ = ("_given", "links")

    def __init__(
        self, given: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), links: tuple[tuple[str, Options], ...] = ()
    ) -> None:
        self._given, self.links = tuple(sorted(dict(given).items())), links

    def __getitem__(self, name: str) -> Any:
        return dict(self._given)[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._given)

    def __len__(self) -> int:
        return len(self._given)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Options) and self._given == other._given

    def __hash__(self) -> int:
        return hash(repr(self._given))  # they may hold dicts

    def __repr__(self) -> str:
        return f"<{len(self)} options of a store>"

    def __reduce__(self) -> tuple[Callable[..., Options], tuple[bytes, ...]]:
        kept = self._given, self.links
        return (_unmasked, _masked(pickle.dumps(kept))) if any(kept) else (Options, ())

    def knowing(self, start: str, options: Options) -> Options:
        """Return the options with those for links to URLs that begin in some way."""
        return Options(self._given, (*((known, o) for known, o in self.links if known != start), (start, Options(options))))

    def of_url(self, url: str, kind: str) -> Options:
        """Return those of a user's options for all stores that are for one: given for what its URL begins with, or known to it.

        Parameters
        ----------
        url
            Of the store, or of what lies there.
        kind
            ``"s3"``, ``"gcs"``, ``"http"``, or empty for others, whose options are not known.

        Examples
        --------
        >>> options = Options({"secret": "s3cret"}).knowing("s3://raw", Options({"anon": True}))
        >>> [dict(options.of_url(url, url.split(":")[0])) for url in ("s3://lab/em", "s3://raw/em", "http://lab/em")]
        [{'secret': 's3cret'}, {'anon': True}, {}]
        """
        if closest := self.closest(url):
            return Options(closest[1], self.links)
        return Options(self.without(*NOT_OF.get(kind, ())), self.links)

    def closest(self, url: str, spelled: Callable[[str, Options], str] = lambda start, _: start) -> tuple[str, Options] | None:
        """Return the longest start of URLs that has options of its own and that a URL begins with, and those; None without one.

        ``spelled`` says how else a start may be written.
        """
        for start, options in sorted(self.links, key=lambda link: -len(link[0])):
            if any(url == one or url.startswith(f"{one.rstrip('/')}/") for one in {start, spelled(start, options)}):
                return start, options
        return None

    def without(self, *names: str) -> Options:
        """Return the options without some."""
        return Options((name, value) for name, value in self._given if name not in names)

    def conceal(self, text: str) -> str:
        """Return a text with all that may be secret struck out.

        Examples
        --------
        >>> Options({"secret": "s3cret", "anon": False}).conceal("the key s3cret is wrong")
        'the key *** is wrong'
        """
        known = [*_texts(dict(self._given)), *(found for _, options in self.links for found in _texts(dict(options)))]
        for secret in sorted(known, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


def _texts(value: Any, name: str = "") -> Iterator[str]:
    """Yield all texts in options that may be secret."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, str(key))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner, name)
    elif isinstance(value, str) and len(value) >= SHORTEST_SECRET and name not in PLAIN:
        yield value


def _masked(data: bytes) -> tuple[bytes, bytes]:
    """Return bytes that say nothing by themselves, and what turns them back; always the same, as names of tasks rest on it."""
    salt = hashlib.blake2b(data, digest_size=16).digest()
    mask = hashlib.shake_256(salt).digest(len(data))
    return salt, bytes(a ^ b for a, b in zip(data, mask, strict=True))


def _unmasked(salt: bytes, data: bytes) -> Options:
    mask = hashlib.shake_256(salt).digest(len(data))
    return Options(*pickle.loads(bytes(a ^ b for a, b in zip(data, mask, strict=True))))


_usual: ContextVar[Options | None] = ContextVar("storage_options", default=None)


@contextmanager
def storage_options(options: Mapping[str, Any]) -> Iterator[None]:
    """Let URLs that are named while the ``with`` block runs have these options, unless they are given others.

    Examples
    --------
    >>> from wkdask.storage import Location
    >>> with storage_options({"anon": True}):
    ...     Location.of("s3://bucket/ds").options["anon"]
    True
    """
    before = _usual.set(options if isinstance(options, Options) else Options(options))
    try:
        yield
    finally:
        _usual.reset(before)


def usual_options() -> Options:
    """Return the options of URLs that were given none."""
    found = _usual.get()
    return Options() if found is None else found


def parse_options(words: Iterable[str]) -> Options:
    """Read ``KEY=VALUE``; values are text, true, false, or JSON objects; dots in a key lead into such objects.

    With a URL and a blank in front, ``URL KEY=VALUE``, an option is for what lies there alone, and no others are.

    Raises
    ------
    InputError
        Where a word has no ``=``; it is not shown, as it may be a secret.

    Examples
    --------
    >>> dict(parse_options(["anon=true", "client_kwargs.region_name=eu-central-1", "key=1234"]))
    {'anon': True, 'client_kwargs': {'region_name': 'eu-central-1'}, 'key': '1234'}
    >>> options = parse_options(["key=1234", "https://lab.org username=me"])
    >>> dict(options.of_url("https://lab.org/em", "http")), dict(options.of_url("s3://lab/em", "s3"))
    ({'username': 'me'}, {'key': '1234'})
    """
    groups: dict[str, list[str]] = {}
    for word in words:
        start, blank, rest = word.partition(" ")
        scoped = blank and "://" in start and "=" not in start
        protocol, mark, place = start.partition("://")
        start = f"{protocol.lower()}{mark}{place.rstrip('/')}"
        groups.setdefault(start if scoped else "", []).append(rest.lstrip() if scoped else word)
    found = Options(_parsed(groups.pop("", ())))
    for start, inner in groups.items():
        found = found.knowing(start, Options(_parsed(inner)))
    return found


def _parsed(words: Iterable[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for word in words:
        name, mark, value = word.partition("=")
        if not (name and mark):
            raise InputError("--storage-options has a word without '='. Write each as KEY=VALUE, such as anon=true.")
        *path, last = name.split(".")
        inner = found
        for part in path:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise InputError(f"--storage-options gives {part} both as a value and as a group. Give it once.")
        inner[last] = _value(value)
    return found


def _value(text: str) -> Any:
    import json

    if text in ("true", "false", "True", "False"):
        return text.lower() == "true"
    if text.startswith("{"):
        try:
            return json.loads(text)
        except ValueError:
            raise InputError("--storage-options has a value that begins with '{' and is no JSON. Correct it.") from None
    return text
