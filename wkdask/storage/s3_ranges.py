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
        self._buckets: dict[str, str] = {}
        self._http: Any = None
        self._signer: Any = None
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
        except (exceptions.NewConnectionError, exceptions.SSLError, exceptions.LocationParseError):
            self.off = True  # the client tells why
            return None
        except exceptions.TimeoutError:
            raise TimeoutError("no answer in time") from None
        except exceptions.HTTPError as error:  # whose texts may hold headers
            raise ConnectionError(type(error).__name__) from None
        code = said[1].decode() if said else ""
        if code == "NoSuchKey":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"{bucket}/{key}")
        if answer.status in AGAIN:
            raise AnswerError(answer.status, code, {name.lower(): value for name, value in answer.headers.items()})
        self.off = answer.status not in (200, 404, 416)
        return None

    def _ask(self, bucket: str, key: str, wanted: str) -> Any:
        """Return an answer whose body is still to be read."""
        url, headers = self._buckets[bucket] + quote(key, safe="/~"), {"Range": wanted, "Accept-Encoding": "identity"}
        if self._signer:
            from botocore.awsrequest import AWSRequest

            request = AWSRequest("GET", url, headers)
            self._signer.add_auth(request)
            headers = dict(request.headers)
        return self._http.request(
            "GET", url, headers=headers, preload_content=False, decode_content=False, redirect=False, retries=False
        )

    def _is_ready(self, bucket: str) -> bool:
        """Learn from the client what a request needs; return whether it told."""
        if bucket in self._buckets and time.monotonic() < self._renewal:
            return True
        from fsspec.asyn import sync

        with self._lock:
            try:
                address = self._buckets.get(bucket) or sync(self._fs.loop, self._address, bucket)
                self._http = self._http or self._pools()
                if time.monotonic() >= self._renewal:
                    self._signer = None if self._fs.anon else sync(self._fs.loop, self._credentials)
                    self._renewal = time.monotonic() + CREDENTIAL_SECONDS
                self._buckets[bucket] = address  # last: other threads take it for the sign that all is there
            except Exception:  # noqa: BLE001 - the client, asked itself, says why
                self.off = True
        return not self.off

    async def _address(self, bucket: str) -> str:
        """Return what addresses of a bucket's objects begin with."""
        client = await self._fs.set_session()
        signed = await client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "key"})
        return str(signed).partition("?")[0].removesuffix("key")

    async def _credentials(self) -> Any:
        """Return what signs requests, as botocore does it."""
        from botocore.auth import S3SigV4Auth
        from botocore.credentials import Credentials

        fs = self._fs
        client = await fs.set_session()
        if fs.key:
            found = Credentials(fs.key, fs.secret, fs.token)
        else:
            found = await (await fs.session.get_credentials()).get_frozen_credentials()
        region = client.meta.region_name
        return S3SigV4Auth(found, "s3", region if region and region != "aws-global" else "us-east-1")

    def _pools(self) -> Any:
        from botocore.httpsession import get_cert_path
        from urllib3 import PoolManager, Timeout

        timeout = Timeout(connect=self._seconds[0], read=self._seconds[1])
        trusted = get_cert_path(self._fs.session.get_config_variable("ca_bundle") or True)
        return PoolManager(maxsize=self._connections, timeout=timeout, cert_reqs="CERT_REQUIRED", ca_certs=trusted)


def _is_plain(fs: Any) -> bool:
    """Whether nothing was asked of a client that plain requests would not do: keys, payers, proxies, certificates."""
    from botocore.utils import get_environ_proxies

    options = fs.storage_options
    return not (
        fs.req_kw
        or fs.s3_additional_kwargs
        or set(fs.client_kwargs) - _PLAIN
        or "session" in options
        or fs.cache_regions
        or get_environ_proxies(
            fs.client_kwargs.get("endpoint_url") or options.get("endpoint_url") or "https://s3.amazonaws.com"
        )
    )
