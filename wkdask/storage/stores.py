"""Clients of stores: fsspec's file systems, set up so that they keep no listings and leave retries to us."""

from __future__ import annotations

import base64
import os
import types
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any
from urllib.request import getproxies

from wkdask.errors import InputError, StorageError, WkdaskError
from wkdask.storage.address import kind_of
from wkdask.storage.aws_files import settings_of_profile
from wkdask.storage.checked_options import check_options, names_of, numbers_of, seconds_of
from wkdask.storage.faults import REDIRECTS, LeadsElsewhereError, is_fault
from wkdask.storage.options import Options

CONNECT_SECONDS = 10
READ_SECONDS = 30
CONNECTIONS = 64
REGION = "x-amz-bucket-region"
"""The header by which S3 says where a bucket is."""


@lru_cache(maxsize=64)
def file_system(protocol: str, options: Options) -> Any:
    """Return the client of a store, the same for the same options.

    Raises
    ------
    InputError
        Where nothing that is installed knows the protocol, or the options are not those of it.
    """
    import fsspec

    kind = kind_of(f"{protocol}://")
    try:
        if not kind:
            return fsspec.filesystem(protocol, **options)
        return _MAKERS[kind](protocol, dict(options))
    except WkdaskError:
        raise
    except ImportError as error:
        package = f"wkdask[{kind}]" if kind else "its fsspec package"
        said = options.conceal(str(error))
        raise InputError(f"URLs with {protocol}:// can not be opened: {said}. Install {package}.") from None
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        said = options.conceal(str(error))
        if isinstance(error, ValueError) and not kind:  # of a protocol that fsspec has never heard of, or of options
            raise InputError(
                f"URLs with {protocol}:// can not be opened: {said}. Check URL and options, or install its fsspec package."
            ) from None
        raise InputError(f"The storage options do not fit {protocol}://: {said}. Correct them.") from None
    except Exception as error:  # of a client that asks for something before it is one; its text may hold a token
        if not is_fault(error):
            raise
        raise StorageError(
            f"{protocol}:// can not be opened: {type(error).__name__} when its credentials were looked at. Check them."
        ) from None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=file_system.cache_clear)  # clients refuse to work in another process


def _s3(protocol: str, options: dict[str, Any]) -> Any:
    import fsspec

    from wkdask.storage.s3_ranges import PlainRequests

    check_options(options, names_of(fsspec.get_filesystem_class(protocol)) | {"profile", "region_name"}, protocol)
    from aiobotocore.config import AioConfig
    from aiobotocore.session import AioSession

    own = numbers_of(options.pop("config_kwargs", None) or {})
    check_options(options.get("client_kwargs") or {}, names_of(AioSession._create_client), protocol, "client_kwargs")
    config = {
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": READ_SECONDS,
        "max_pool_connections": CONNECTIONS,
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        **own,
    }
    AioConfig(**config)  # whose names are checked by it alone
    config["http_session_cls"] = _staying()
    region = options.pop("region_name", None)
    if region:
        options["client_kwargs"] = {"region_name": region, **options.get("client_kwargs", {})}
    if "endpoint_url" in options:
        options["client_kwargs"] = {k: v for k, v in options.get("client_kwargs", {}).items() if k != "endpoint_url"}
        if not _region(options):  # which such stores do not ask for, but signatures need
            options["client_kwargs"]["region_name"] = "us-east-1"
    fs = fsspec.filesystem(
        protocol,
        config_kwargs=config,
        max_concurrency=options.pop("max_concurrency", 1),  # of one read, which would else ask for the size first
        use_listings_cache=False,
        skip_instance_cache=True,
        **options,
    )
    fs.retries = 1
    fs.plain_requests = None if own else PlainRequests(fs, (CONNECT_SECONDS, READ_SECONDS), CONNECTIONS)
    return fs


@lru_cache(maxsize=1)
def _staying() -> type:
    """Return the class of botocore's sessions that are led nowhere else, where headers with secrets would go along.

    What S3 says of a bucket's region, botocore follows by itself, with a request that is signed anew.
    """
    from aiobotocore.httpsession import AIOHTTPSession

    class Staying(AIOHTTPSession):  # type: ignore[misc]
        async def _get_session(self, proxy_url: str | None) -> Any:
            session = await super()._get_session(proxy_url)

            async def request(*args: Any, **options: Any) -> Any:
                answer = await session.request(*args, **options, allow_redirects=False)
                if answer.status in REDIRECTS and REGION not in answer.headers:
                    answer.close()
                    raise LeadsElsewhereError(answer.status)
                return answer

            return types.SimpleNamespace(request=request)

    return Staying


def _region(options: dict[str, Any]) -> bool:
    names = ("AWS_REGION", "AWS_DEFAULT_REGION")
    return bool(
        options["client_kwargs"].get("region_name")
        or any(os.environ.get(name) for name in names)
        or settings_of_profile(options.get("profile")).get("region")
    )


def _gcs(protocol: str, options: dict[str, Any]) -> Any:
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # asks by gRPC, and hangs where that is not answered
    import fsspec

    check_options(options, names_of(fsspec.get_filesystem_class(protocol)) | {"anon"}, protocol)
    if options.pop("anon", False):
        options["token"] = "anon"
    options.setdefault("requests_timeout", READ_SECONDS)
    fs = fsspec.filesystem(protocol, use_listings_cache=False, skip_instance_cache=True, **options)
    once: Callable[..., Any] | None = getattr(type(fs)._request, "__wrapped__", None)
    if once:  # without the retries around it
        fs._request = types.MethodType(once, fs)
    return fs


def _http(protocol: str, options: dict[str, Any]) -> Any:
    import aiohttp
    import fsspec

    known = names_of(fsspec.get_filesystem_class(protocol), aiohttp.ClientSession._request) | {"anon", "username", "password"}
    check_options(options, known, protocol)
    kwargs = dict(options.pop("client_kwargs", None) or {})
    check_options(kwargs, names_of(aiohttp.ClientSession), protocol, "client_kwargs")
    anonymous = options.pop("anon", False)
    user, password = options.pop("username", None), options.pop("password", None)
    auth = [given for given in (options.pop("auth", None), kwargs.pop("auth", None)) if given]
    if user is None and not (anonymous or auth):
        user, password = os.environ.get("HTTP_BASIC_USER"), os.environ.get("HTTP_BASIC_PASSWORD")
    patience = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
    whole = options.pop("timeout", kwargs.get("timeout", patience))
    if not isinstance(whole, aiohttp.ClientTimeout):
        whole = aiohttp.ClientTimeout(
            None if whole is None else seconds_of(whole), sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS
        )
    kwargs["timeout"] = whole
    kwargs.setdefault("trust_env", bool(getproxies().keys() & {"http", "https"}))
    options.setdefault("get_client", _without_netrc)
    own, cookies = ({**kwargs.pop(name, {}), **options.pop(name, {})} for name in ("headers", "cookies"))
    if user:
        word = base64.b64encode(f"{user}:{password or ''}".encode()).decode()
        own.setdefault("Authorization", f"Basic {word}")
    elif auth:
        own.setdefault("Authorization", auth[0].encode())
    if cookies:
        own.setdefault("Cookie", "; ".join(f"{name}={value}" for name, value in cookies.items()))
    kwargs |= {"headers": own, "trace_configs": [*kwargs.get("trace_configs", ()), _left_behind(own)]}
    return fsspec.filesystem(protocol, client_kwargs=kwargs, use_listings_cache=False, skip_instance_cache=True, **options)


async def _without_netrc(**options: Any) -> Any:
    """Return a session that takes proxies from the environment, but no passwords from ``~/.netrc``, which nobody gave us."""
    import aiohttp

    session = aiohttp.ClientSession(**options)
    session._get_netrc_auth = lambda _: None  # type: ignore[assignment,method-assign]
    return session


def _left_behind(headers: Mapping[str, str]) -> Any:
    """Return what takes headers out of requests that are led to another server, to which aiohttp sends all but one."""
    import aiohttp
    from yarl import URL

    async def drop(session: Any, context: Any, redirect: Any) -> None:  # noqa: ARG001
        answer = redirect.response
        here, there = answer.url, answer.url.join(URL(answer.headers.get("Location") or answer.headers.get("URI") or ""))
        if here.origin() != there.origin() and (here.host, here.scheme, there.scheme) != (there.host, "http", "https"):
            for name in headers:
                redirect.headers.pop(name, None)

    found = aiohttp.TraceConfig()
    found.on_request_redirect.append(drop)
    return found


_MAKERS = {"s3": _s3, "gcs": _gcs, "http": _http}
