"""Read the files named in the arguments with little memory and time, and print what became of each, as JSON lines.

The last argument of a run is a folder; whatever the tests broke lies in it. Killed by its limits, this program shows a reader
that believes what a file says.
"""

from __future__ import annotations

import hashlib
import json
import logging
import resource
import sys
import time
from pathlib import Path

import numpy as np

from wkdask.errors import WkdaskError
from wkdask.images.byte_source import opened, zip_members
from wkdask.images.picture import parsed

MEMORY, SECONDS = 1 << 30, 30


def read(path: str) -> dict[str, object]:
    picture = parsed(path)
    form = picture.form
    digest = hashlib.sha256()
    with opened(path) as source:
        for page in range(picture.pages):
            out = np.empty((form.height, form.width, form.channels), form.dtype)
            picture.read(source, page, (0, form.height), (0, form.width), out)
            digest.update(out.tobytes())
    return {"dims": picture.dims, "form": str(form), "digest": digest.hexdigest()}


def outcome(path: Path) -> dict[str, object]:
    try:
        if path.suffix == ".zip":
            return {"members": [read(f"{path}!/{name}") for name, _, _ in zip_members(str(path))]}
        return read(str(path))
    except WkdaskError as error:
        return {"error": type(error).__name__, "message": str(error)}
    except Exception as error:  # noqa: BLE001  told to the test
        return {"error": f"leaked {type(error).__name__}", "message": str(error)}


def main() -> None:
    logging.getLogger("tifffile").disabled = True
    import imagecodecs  # noqa: F401  what libraries take is not what files ask for
    import PIL.Image  # noqa: F401
    import tifffile  # noqa: F401

    own = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (own + MEMORY, own + MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    for path in sorted(Path(sys.argv[1]).iterdir()):
        begin = time.process_time()
        result = outcome(path)
        seconds = time.process_time() - begin
        print(json.dumps({"name": path.name, "seconds": seconds} | result), flush=True)
    status = Path("/proc/self/status").read_text()  # getrusage would count the process that started this one
    print(json.dumps({"peak": int(status.partition("VmHWM:")[2].split()[0]) * 1024}))


if __name__ == "__main__":
    main()
