"""What errors of stores mean: whether trying again helps, and what to tell the user."""

from __future__ import annotations

from collections.abc import Iterator
from errno import ENOENT
from socket import gaierror
from typing import Any

AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
REDIRECTS = frozenset({301, 302, 303, 307, 308})
AGAIN_CODES = frozenset({"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "TooManyRequests", "InternalError"})
AGAIN_KINDS = frozenset(
    {
        "EndpointConnectionError",
        "ClientPayloadError",
        "ConnectionClosedError",
        "ConnectTimeoutError",
        "FSTimeoutError",
        "HTTPClientError",
        "IncompleteRead",
        "IncompleteReadError",
        "ProxyError",
        "ReadTimeoutError",
        "ResponseParserError",
        "ResponseStreamingError",
        "ServerDisconnectedError",
        "ServerTimeoutError",
    }
)
"""Names of the classes that clients raise where a connection broke; they are not imported to be compared with."""

HOPELESS_KINDS = frozenset(
    {"ClientConnectorDNSError", "ClientConnectorSSLError", "ClientConnectorCertificateError", "SSLError", "LeadsElsewhereError"}
)

CONFLICTS = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})

FORBIDDEN: dict[str, tuple[str, str]] = {
    "SignatureDoesNotMatch": ("the secret key is wrong", "Check AWS_SECRET_ACCESS_KEY, or secret among the storage options"),
    "InvalidAccessKeyId": ("it does not know the access key", "Check AWS_ACCESS_KEY_ID, or key among the storage options"),
    "ExpiredToken": ("the session token has expired", "Get new credentials"),
    "ExpiredTokenException": ("the session token has expired", "Get new credentials"),
    "TokenRefreshRequired": ("the session token has expired", "Get new credentials"),
    "InvalidToken": ("the session token is wrong", "Check AWS_SESSION_TOKEN, or token among the storage options"),
    "RequestTimeTooSkewed": ("its clock and ours differ too much", "Set this machine's clock"),
    "NoSuchBucket": ("there is no such bucket", "Check its name, or create it"),
    "InvalidBucketName": ("this can not be a bucket's name", "Check it"),
}
"""What stores say by codes, and what to do."""


class NoBucketError(OSError):
    """There is no such bucket; which is no sign that an object in it is not there."""


class LeadsElsewhereError(OSError):
    """A store answers by the address of another one, which must not get what is sent to this one."""


class IgnoresRangeError(OSError):
    """A server sends whole files where a range was asked for."""


CLIENTS = frozenset({"aiohttp", "aiobotocore", "asyncio", "botocore", "fsspec", "gcsfs", "google", "requests", "s3fs"})
"""Packages whose errors, though no OSErrors, tell of a store."""


def is_fault(error: BaseException) -> bool:
    """Whether an error tells of a disk or a store, rather than of our own doing."""
    return isinstance(error, OSError) or any(type(one).__module__.partition(".")[0] in CLIENTS for one in chain(error))


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it came of."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        left += [None if one.__suppress_context__ else one.__context__, one.__cause__, _inner(one)]


def _inner(error: BaseException) -> BaseException | None:
    """Return the error that one of botocore or aiohttp holds besides its cause."""
    for name in ("os_error", "error"):
        found = getattr(error, name, None)
        if isinstance(found, BaseException):
            return found
    kwargs = getattr(error, "kwargs", None)  # of botocore's
    found = kwargs.get("error") if isinstance(kwargs, dict) else None
    return found if isinstance(found, BaseException) else None


def forget_outer(error: BaseException, outer: BaseException | None) -> None:
    """Take out of what an error came of the one that was being handled when it was asked, which is no part of the answer."""
    for one in chain(error) if outer is not None and error is not outer else ():
        if one.__context__ is outer:
            one.__context__ = None


def said(error: BaseException) -> tuple[int, str]:
    """Return the HTTP status and the store's code that an error tells of: 0 and nothing where it does not.

    Examples
    --------
    >>> said(FileNotFoundError("a")), said(OSError("x"))
    ((404, ''), (0, ''))
    """
    for one in chain(error):
        response: Any = getattr(one, "response", None)
        if isinstance(response, dict):  # botocore's ClientError
            code = str(response.get("Error", {}).get("Code") or "")
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode") or (int(code) if code.isdecimal() else 0)
            return int(status), "" if code.isdecimal() else code
        for name in ("status", "code"):  # aiohttp's and gcsfs's
            found = None if "HttpProcessingError" in _kinds_of(one) else getattr(one, name, None)  # whose code no server sent
            if isinstance(found, int | str) and str(found).isdecimal() and 300 <= int(found) < 600:
                return int(found), ""
        if type(one) is OSError and str(one).startswith("Forbidden:"):  # gcsfs's
            return 403, ""
        if _tells_break(one):  # while an earlier answer was looked into, which is no answer to this
            return 0, ""
    if isinstance(error, FileNotFoundError) and not _broke(error):
        return 404, ""
    return 0, ""


def _kinds(error: BaseException) -> set[str]:
    return {name for one in chain(error) for name in _kinds_of(one)}


def _kinds_of(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _broke(error: BaseException) -> bool:
    """Whether a connection failed, so that nothing was said."""
    return any(map(_tells_break, chain(error)))


def _tells_break(one: BaseException) -> bool:
    """Whether an error, by itself, tells of a connection that failed."""
    kinds = _kinds_of(one)
    return bool(kinds & (AGAIN_KINDS | HOPELESS_KINDS)) or isinstance(one, ConnectionError | TimeoutError | gaierror)


def may_pass(error: BaseException) -> bool:
    """Whether trying again may help: where the store is busy or the connection broke, never where it said no.

    Examples
    --------
    >>> may_pass(ConnectionResetError()), may_pass(PermissionError()), may_pass(ConnectionRefusedError())
    (True, False, False)
    """
    status, code = said(error)
    if status or code:
        return status in AGAIN or code in AGAIN_CODES
    if _kinds(error) & HOPELESS_KINDS:
        return False
    if any(isinstance(one, ConnectionRefusedError | gaierror) or _lacks_file(one) for one in chain(error)):
        return False
    return _broke(error)


def _lacks_file(one: BaseException) -> bool:
    """Whether a client could not begin, as a file of this machine is not there, such as that of certificates."""
    return isinstance(one, OSError) and one.errno == ENOENT


def is_absent(error: BaseException) -> bool:
    """Whether the store said that an object is not there, which is nothing else than that."""
    status, code = said(error)
    return status in (404, 410) and code not in FORBIDDEN


def is_forbidden(error: BaseException) -> bool:
    """Whether the store knows who asks, and does not do this for them.

    Examples
    --------
    >>> is_forbidden(PermissionError()), is_forbidden(FileNotFoundError("a"))
    (True, False)
    """
    status, code = said(error)
    return code not in FORBIDDEN and (status in (403, 405) or isinstance(error, PermissionError))


def is_conflict(error: BaseException) -> bool:
    """Whether a condition on what is to be replaced did not hold."""
    status, code = said(error)
    return status == 412 or code in CONFLICTS or isinstance(error, FileExistsError)


def forget_headers(error: BaseException) -> None:
    """Take the headers of requests, which may hold a password, out of what aiohttp's errors tell; the rest can be pickled."""
    for one in chain(error):
        info = getattr(one, "request_info", None)
        if isinstance(info, tuple) and hasattr(info, "_replace"):
            one.request_info = info._replace(headers={})  # type: ignore[attr-defined]
            one.history = ()  # type: ignore[attr-defined]
            one.headers = dict(getattr(one, "headers", None) or {})  # type: ignore[attr-defined]
            one.args = (one.request_info, (), *one.args[2:])  # type: ignore[attr-defined]


def explain(error: BaseException, store: str) -> tuple[str, str]:
    """Return what went wrong at a store, and what to do, each without a full stop."""
    status, code = said(error)
    kinds = _kinds(error)
    if isinstance(error, NoBucketError):
        code = "NoSuchBucket"
    if code in FORBIDDEN:
        what, remedy = FORBIDDEN[code]
        return f"{store} says that {what} ({code})", remedy
    if "NoCredentialsError" in kinds or "PartialCredentialsError" in kinds:
        remedy = "Give them by the environment or as storage options, or anon=true where all may read"
        return f"there are no credentials for {store}", remedy
    if "ProfileNotFound" in kinds or "UnknownCredential" in kinds:
        return f"{error}", "Check the profile's name and ~/.aws"
    if status == 401:
        return f"{store} asks for credentials, or does not take those given (401)", "Check user and password, or the token"
    if status == 403 or isinstance(error, PermissionError):
        remedy = "Ask for the right to it; stores that do not let you list say the same of what is not there"
        return f"permission denied by {store} ({code or 403})", remedy
    if isinstance(error, IgnoresRangeError):
        return f"{store} sends whole files where ranges are asked for", "Use a server that knows Range requests"
    return _of_connections(error, store) or _of_statuses(error, status, code, store)


def _of_connections(error: BaseException, store: str) -> tuple[str, str] | None:
    kinds = _kinds(error)
    if any(map(_lacks_file, chain(error))):
        return f"{store} can not be asked, as a file of this machine is not there", "Check AWS_CA_BUNDLE or SSL_CERT_FILE"
    if "ClientConnectorDNSError" in kinds or any(isinstance(one, gaierror) for one in chain(error)):
        return f"the host {store} is not known", "Check the endpoint"
    if "LeadsElsewhereError" in kinds or said(error)[0] in REDIRECTS:
        return f"{store} leads to another place", "Check bucket and region, or give that place's own endpoint"
    if kinds & HOPELESS_KINDS:
        return (
            f"no secure connection to {store} can be made",
            "Check its certificate, and whether the endpoint is http or https",
        )
    if any(isinstance(one, ConnectionRefusedError) for one in chain(error)) or "EndpointConnectionError" in kinds:
        return f"nothing answers at {store}", "Check the endpoint, and whether it runs"
    if "ParamValidationError" in kinds:  # which goes on about how names must be
        wrong = str(error).rpartition("\n")[2].partition(":")[0]
        return f"{store} is not even asked: {wrong}", "Check bucket and path"
    if "InvalidEndpointURL" in kinds or "InvalidURL" in kinds:
        return f"{store} is no endpoint", "Write it as https://HOST:PORT"
    return None


def _of_statuses(error: BaseException, status: int, code: str, store: str) -> tuple[str, str]:
    if may_pass(error):
        detail = code or (f"status {status}" if status else type(error).__name__)
        remedy = "Run the same again later" if status else "Check whether it speaks http or https, or run the same again later"
        return f"{store} did not answer properly, however often asked ({detail})", remedy
    detail = f" ({code or status})" if code or status else ""
    return f"{store} failed: {str(error) or type(error).__name__}{detail}", "Check the URL and the storage options"
