"""Which store a URL means: protocol, endpoint and path, by the URL, the options and the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from wkdask.errors import InputError
from wkdask.storage.aws_files import settings_of_profile
from wkdask.storage.options import Options

S3 = frozenset({"s3", "s3a"})
GCS = frozenset({"gs", "gcs"})
HTTP = frozenset({"http", "https"})
AMAZON = ".amazonaws.com"
AMAZON_S3 = re.compile(r"s3(-fips)?(\.dualstack)?([.-][a-z0-9-]+)?\.amazonaws\.com")
"""Hosts that are Amazon's S3; other names below `AMAZON` may be those of its customers' machines."""
IPV6 = re.compile(r"\[[0-9a-fA-F:.]+\](:\d+)?")
ENDPOINTS = "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "S3_ENDPOINT_URL"


def kind_of(url: str) -> str:
    """Return which kind of store a URL is of, ``"s3"``, ``"gcs"`` or ``"http"``, or nothing for others.

    Examples
    --------
    >>> [kind_of(url) for url in ("s3://lab/em", "gs://lab/em", "https://lab/em", "memory://em", "/em")]
    ['s3', 'gcs', 'http', '', '']
    """
    protocol = url.partition("://")[0]
    return "s3" if protocol in S3 else "gcs" if protocol in GCS else "http" if protocol in HTTP else ""


@dataclass(frozen=True, slots=True)
class Address:
    """A store, and a path in it: ``bucket/key``, or all of the URL where the protocol is HTTP.

    Examples
    --------
    >>> Address.of("s3://localhost:9000/bucket/ds", Options())
    Address(protocol='s3', options=<1 options of a store>, url='s3://bucket/ds')
    """

    protocol: str
    options: Options
    url: str

    @classmethod
    def of(cls, url: str, options: Options) -> Address:
        """Return what a URL means.

        Raises
        ------
        InputError
            Where the URL names one endpoint, the options another.
        """
        protocol, _, path = url.partition("://")
        if protocol.lower() not in S3:
            return cls(protocol, options, url)
        host, _, rest = path.partition("/")
        if "@" in host:
            raise InputError("A URL of S3 holds no user and password. Give them by the environment, or as storage options.")
        given = _endpoint_of(options)
        if is_host(host) or (given and host == urlsplit(given).netloc):
            if given and urlsplit(given).netloc != host:
                raise InputError(f"s3://{host} names another endpoint than endpoint_url, {given}. Give one of them.")
            return cls("s3", _with_endpoint(options, given or _endpoint_at(host)), f"s3://{rest}")
        return cls("s3", _with_endpoint(options, given), f"s3://{path}")

    @property
    def store(self) -> str:
        """The store's name for people: the endpoint's host."""
        if self.protocol in S3:
            endpoint = self.options.get("endpoint_url")
            return urlsplit(endpoint).netloc if endpoint else "s3" + AMAZON
        if self.protocol in GCS:
            given = self.options.get("endpoint_url") or os.environ.get("STORAGE_EMULATOR_HOST") or "storage.googleapis.com"
            return urlsplit(given if "://" in given else f"//{given}").netloc
        return urlsplit(self.url).netloc.rpartition("@")[2]


def is_host(name: str) -> bool:
    """Whether the first part of an S3 URL is certainly a host and no bucket.

    Examples
    --------
    >>> [is_host(name) for name in ("localhost:9000", "s3.eu-west-1.amazonaws.com", "10.0.0.1", "bucket", "my.bucket")]
    [True, True, True, False, False]
    """
    return ":" in name or name == "localhost" or name.endswith(AMAZON) or bool(re.fullmatch(r"\d+(\.\d+){3}", name))


def _endpoint_of(options: Options) -> str | None:
    kwargs = options.get("client_kwargs")
    given = [group.get("endpoint_url") for group in (options, kwargs) if isinstance(group, Mapping)]
    found = next(filter(None, given), None) or endpoint_of_environment(options.get("profile"))
    if not isinstance(found, str | None):
        raise InputError(f"The storage option endpoint_url is of type {type(found).__name__}, expected text.")
    if found and (not found.startswith(("http://", "https://")) or not urlsplit(found).netloc or "@" in urlsplit(found).netloc):
        raise InputError(
            "The endpoint_url of S3 is no URL of a server, such as https://host:9000, without user and password. Correct it; "
            "credentials go into the environment, or the storage options key and secret."
        )
    return found


def endpoint_of_environment(profile: str | None = None) -> str | None:
    """Return the S3 endpoint that the environment names, or else AWS's files for a profile."""
    named = next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), None)
    return named or settings_of_profile(profile).get("endpoint_url")


def _endpoint_at(host: str) -> str | None:
    if host == "s3" + AMAZON:
        return None
    near = host.partition(":")[0] in ("localhost", "127.0.0.1")
    return f"{'http' if near else 'https'}://{host}"


def _with_endpoint(options: Options, endpoint: str | None) -> Options:
    return options if endpoint is None else Options({**options, "endpoint_url": endpoint})


def split_user(url: str) -> tuple[str, dict[str, str]]:
    """Return a URL of a web server without the user and password in it, and those.

    Examples
    --------
    >>> split_user("https://me:secret@host/x")
    ('https://host/x', {'username': 'me', 'password': 'secret'})
    """
    if "@" not in url:  # as in almost all
        return url, {}
    protocol, mark, path = url.partition("://")
    host, slash, rest = path.partition("/")
    user, at, host = host.rpartition("@")
    if protocol not in HTTP or not at:
        return url, {}
    name, _, password = user.partition(":")
    return f"{protocol}{mark}{host}{slash}{rest}", {"username": unquote(name), "password": unquote(password)}


def require_host(url: str) -> None:
    """Raise `InputError` for URLs without bucket or host, or with one that can be none."""
    kind = kind_of(url)
    host = url.partition("://")[2].partition("/")[0].rpartition("@")[2] if kind else ""
    if kind and (not host or ("[" in host and not IPV6.fullmatch(host))):
        part = "host" if kind == "http" else "bucket"
        raise InputError(f"A URL with {url.partition('://')[0]}:// has no {part} behind that. Correct it.")
    if kind == "http":
        try:
            urlsplit(f"//{host}").port  # noqa: B018 - which looks at it
        except ValueError:  # whose text may hold a password that has a slash in it
            text = "A URL of a web server has no port behind its host. In passwords, write / as %2F and @ as %40."
            raise InputError(text) from None
    if kind == "s3" and "?versionId=" in url:
        raise InputError("A URL of S3 with ?versionId= names a version of an object, which can not be opened. Leave it out.")


def documented(url: str, options: Options) -> str:
    """Return how documents say a URL, so that `linked` finds the same store: S3 by the endpoint's host.

    Where that can not be known, or would be taken for a bucket, the URL stays as it is.

    Examples
    --------
    >>> documented("s3://bucket/ds", Options({"endpoint_url": "https://store.lab.org"}))
    's3://store.lab.org/bucket/ds'
    """
    address = Address.of(url, options)
    host = address.store
    if address.protocol.lower() not in S3 or not _says_host(host):
        return url
    return f"s3://{host}/{address.url.removeprefix('s3://')}"


def _says_host(name: str) -> bool:
    """Whether the first part of an S3 URL in a document is a host."""
    return "." in name or is_host(name)


def linked(base_url: str, base: Options, url: str) -> tuple[str, Options]:
    """Return how a URL in a document is opened: with the credentials of the document's store only where it is the same.

    In documents, S3 URLs begin with the endpoint's host. Credentials of the environment go to the endpoint that it names, and
    to Amazon's S3; a store that a document alone names gets none, unless a user has given some for it: see `Options`.

    Parameters
    ----------
    base_url, base
        Of the document.
    url
        In the document.
    """
    closest = base.closest(url, documented)
    if closest and not closest[0].endswith("://"):  # options for all of a protocol are for what users name alone
        return linked(*closest, url)
    protocol, _, path = url.partition("://")
    host, _, rest = path.partition("/")
    if protocol.lower() in S3 and _says_host(host):
        own = Address.of(base_url, base).options if base_url.partition("://")[0].lower() in S3 else base
        for options, endpoint in ((base, _endpoint_of(own)), (Options(), endpoint_of_environment())):
            if endpoint and urlsplit(endpoint).netloc == host:
                return f"s3://{rest}", _with_endpoint(options, endpoint)
        trusted = AMAZON_S3.fullmatch(host) is not None
        plain = Options() if trusted else Options({"anon": True})
        same = trusted and base_url.startswith("s3://") and not _endpoint_of(base)
        elsewhere = f"https://{host}" if endpoint_of_environment() else None  # which would be taken instead of Amazon's
        return f"s3://{rest}", _with_endpoint(base if same else plain, _endpoint_at(host) or elsewhere)
    if protocol in HTTP:
        same = urlsplit(base_url)[:2] == urlsplit(url)[:2]
        return url, base if same else Options({"anon": True})
    return url, base if base_url.partition("://")[0] == protocol else Options()


def beside(url: str, path: str) -> str:
    """Return where a relative path leads from a URL; it stays in the URL's host or bucket.

    Examples
    --------
    >>> beside("s3://bucket/lab/ds", "../other/./em/1")
    's3://bucket/lab/other/em/1'
    """
    protocol, mark, rest = url.partition("://")
    host, *parts = rest.split("/")
    for part in path.split("/"):
        if part == ".." and not parts:
            raise InputError(f"The path {path!r} leads out of {protocol}{mark}{host}. Use a URL for data elsewhere.")
        if part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return f"{protocol}{mark}{'/'.join((host, *parts))}"
