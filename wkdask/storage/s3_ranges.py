"""Ranges of objects on S3 by plain requests, which the client's own credentials sign.

A request through aiobotocore takes 1.3 ms of the processor, and its bodies pass through one thread at 300 MB/s. A cut-out makes
many of them. Here they are made by urllib3, which is there wherever botocore is, in the threads that want them; the client says
at which address a bucket is, and who asks. Whatever is not the usual answer, the client is asked itself, which knows what to do
about redirects, regions and other ways to sign, and explains what went wrong.
"""

from __future__ import annotations

import errno
import os
import re
import threading
import time
from typing import Any
from urllib.parse import quote

from wkdask.storage.faults import AGAIN

CREDENTIAL_SECONDS = 60
"""So long credentials are used before they are asked for again; clients renew them minutes before they end."""
_CODE = re.compile(rb"<Code>(\w+)</Code>")
_PLAIN = frozenset({"region_name", "endpoint_url"})


class AnswerError(OSError):
    """A store answered that it is busy.

    Parameters
    ----------
    status, code
        Of HTTP, and the store's own.
    headers
        Of the answer.
    """

    def __init__(self, status: int, code: str, headers: dict[str, str]) -> None:
        super().__init__(f"status {status} {code}".rstrip())
        self.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers}}


class PlainRequests:
    """Asks for ranges on behalf of one client.

    Parameters
    ----------
    fs
        The client, of s3fs.
    seconds
        To connect, and between two pieces of an answer.
    connections
        Which are kept open, at most.
    """

    def __init__(self, fs: Any, seconds: tuple[float, float], connections: int) -> None:
        self._fs, self._seconds, self._connections = fs, seconds, connections
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[str, str]] = {}
        self._http: Any = None
        self._credentials: Any = None
        self._renewal = 0.0
        self.off = not _is_plain(fs)
        """Whether the client has to be asked itself, always."""

    def get(self, bucket: str, key: str, wanted: str, most: int) -> tuple[bytes, dict[str, str]] | None:
        """Return bytes of an object and the answer's headers; None where the client should be asked itself.

        Parameters
        ----------
        bucket, key
            Of the object.
        wanted
            The header ``Range``.
        most
            Bytes that it stands for; of more, one is returned.

        Raises
        ------
        FileNotFoundError
            Where the bucket has no such object.
        ConnectionError, TimeoutError, AnswerError
            Where trying again may help.
        """
        if self.off or not {".", "..", ""}.isdisjoint(key.split("/")):  # which HTTP clients take for steps
            return None
        from urllib3 import exceptions

        try:
            if not self._is_ready(bucket):
                return None
            answer = self._ask(bucket, key, wanted)
            try:
                if answer.status == 206:
                    return answer.read(most + 1), answer.headers
                said = _CODE.search(answer.read(4096) or b"") if answer.status != 200 else None
            finally:
                answer.close() if answer.length_remaining else answer.release_conn()
        except exceptions.ReadTimeoutError:
            raise TimeoutError("no answer in time") from None
        except exceptions.ProtocolError as error:  # a connection that broke; its text may hold headers
            raise ConnectionError(type(error).__name__) from None
        except Exception:  # noqa: BLE001 - no connection, no trust, values that no header can have: the client tells
            self.off = True
            return None
        code = said[1].decode() if said else ""
        if code == "NoSuchKey":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"{bucket}/{key}")
        if answer.status in AGAIN:
            raise AnswerError(answer.status, code, {name.lower(): value for name, value in answer.headers.items()})
        self.off = answer.status not in (200, 404, 416)
        return None

    def _ask(self, bucket: str, key: str, wanted: str) -> Any:
        """Return an answer whose body is still to be read."""
        address, region = self._buckets[bucket]
        url, headers = address + quote(key, safe="/~"), {"Range": wanted, "Accept-Encoding": "identity"}
        if self._credentials:
            from botocore.auth import S3SigV4Auth
            from botocore.awsrequest import AWSRequest

            request = AWSRequest("GET", url, headers)
            S3SigV4Auth(self._credentials, "s3", region).add_auth(request)
            headers = dict(request.headers)
        return self._http.request(
            "GET", url, headers=headers, preload_content=False, decode_content=False, redirect=False, retries=False
        )

    def _is_ready(self, bucket: str) -> bool:
        """Return whether the client has told what a request needs; where it has not, it will when it is asked next."""
        if bucket in self._buckets and time.monotonic() < self._renewal:
            return True
        from fsspec.asyn import sync

        with self._lock:
            try:
                if bucket not in self._buckets:
                    sync(self._fs.loop, self._listen)
                    return False
                self._http = self._http or self._pools()
                self._credentials = None if self._fs.anon else sync(self._fs.loop, self._ask_for_credentials)
                self._renewal = time.monotonic() + CREDENTIAL_SECONDS
            except Exception:  # noqa: BLE001 - the client, asked itself, says why
                self.off = True
        return not self.off

    async def _listen(self) -> None:
        client = await self._fs.set_session()
        client.meta.events.register("before-sign.s3.GetObject", self._learn, unique_id=f"wkdask-{id(self)}")

    def _learn(self, request: Any, signature_version: Any = None, region_name: str | None = None, **_: Any) -> None:
        """Take address and region of a bucket from a request that the client is about to sign."""
        from botocore import UNSIGNED
        from botocore.utils import get_environ_proxies

        asked = request.context.get("s3_redirect") or {}
        key = quote(str((asked.get("params") or {}).get("Key", "")), safe="/~")
        url = str(request.url).partition("?")[0]
        usual = signature_version in ("s3v4", "v4", UNSIGNED)
        if not usual or not key or not url.endswith(f"/{key}") or get_environ_proxies(url):
            self.off = True
            return
        region = (request.context.get("signing") or {}).get("region") or region_name or "us-east-1"
        self._buckets[str(asked.get("bucket"))] = url.removesuffix(key), region

    async def _ask_for_credentials(self) -> Any:
        from botocore.credentials import Credentials

        fs = self._fs
        if fs.key:
            return Credentials(fs.key, fs.secret, fs.token)
        return await (await fs.session.get_credentials()).get_frozen_credentials()

    def _pools(self) -> Any:
        from botocore.httpsession import get_cert_path
        from urllib3 import PoolManager, Timeout

        timeout = Timeout(connect=self._seconds[0], read=self._seconds[1])
        trusted = get_cert_path(self._fs.session.get_config_variable("ca_bundle") or True)
        return PoolManager(maxsize=self._connections, timeout=timeout, cert_reqs="CERT_REQUIRED", ca_certs=trusted)


def _is_plain(fs: Any) -> bool:
    """Whether nothing was asked of a client that plain requests would not do: keys, payers, proxies, certificates."""
    options = fs.storage_options
    return not (
        fs.req_kw or fs.s3_additional_kwargs or set(fs.client_kwargs) - _PLAIN or "session" in options or fs.cache_regions
    )
