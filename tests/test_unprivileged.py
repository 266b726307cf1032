"""Everything works as a user without rights, groups and home; what that user may not read or write is said, and kept."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile

import wkdask as wk

NOBODY = 65534

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become another user"),
]


def stack(folder, size):
    """Make a stack of slices; return its (x, y, z) voxels."""
    folder.mkdir(parents=True)
    volume = np.random.default_rng(0).integers(1, 200, size).astype("uint8")
    for z in range(size[2]):
        tifffile.imwrite(folder / f"slice_{z:03}.tif", volume[..., z].T)
    return volume


def voxels(target, mag=1):
    return wk.Dataset.open(target).get_layer("em").get_mag(mag).read()[0]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def hidden_folders():
    """Folders of this Python that others can not reach, each with the folder above it that hides it."""
    for place in dict.fromkeys((sys.base_prefix, sys.prefix, str(Path(wk.__file__).parents[1]))):
        above = [folder for folder in Path(place).parents if not folder.stat().st_mode & 1]
        if above:
            yield str(above[-1]), place


def as_nobody(*words, env=(), cwd="/"):
    """Run a program as a user without rights, groups and home.

    Where this Python lies in a closed folder, such as root's home, the program sees it through a mount of its own.
    """
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **dict(env)}
    command = [str(word) for word in words]
    opened = [f"mkdir -p /tmp/$$.{n} && mount --bind {shlex.quote(p)} /tmp/$$.{n}" for n, (_, p) in enumerate(hidden_folders())]
    opened += [f"mount -t tmpfs -o mode=755 none {shlex.quote(above)}" for above in sorted({a for a, _ in hidden_folders()})]
    opened += [
        f"mkdir -p {shlex.quote(p)} && mount --move /tmp/$$.{n} {shlex.quote(p)} && rmdir /tmp/$$.{n}"
        for n, (_, p) in enumerate(hidden_folders())
    ]
    if opened:
        user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"]
        command = ["unshare", "-m", "sh", "-ec", "; ".join([*opened, 'cd "$PWD"; exec "$@"']), "sh", *user, *command]
        rights = {}
    else:
        rights = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=cwd, timeout=100, **rights)


@pytest.fixture
def shared():
    """A folder that other users can reach."""
    with tempfile.TemporaryDirectory(prefix="wkdask-bad-input-") as name:
        place = Path(name)
        place.chmod(0o755)
        tried = as_nobody(sys.executable, "-c", "import wkdask, numpy, os; print(os.getuid())", cwd=place)
        if tried.stdout.strip() != str(NOBODY):
            pytest.skip(f"another user can not run this Python: {tried.stderr}")
        yield place


def convert_as_nobody(source, target, *options, **others):
    words = ["convert", source, target, "--voxel-size", "4,4,35", "--layer-name", "em", "--progress", "none", *options]
    return as_nobody(sys.executable, "-m", "wkdask", *words, **others)


def test_what_one_may_not_write_or_read(shared):
    stack(shared / "slices", (20, 20, 6))
    (shared / "theirs").mkdir()
    done = convert_as_nobody(shared / "slices", shared / "theirs" / "ds", cwd=shared)
    assert done.returncode == 1
    assert f"{shared / 'theirs'}" in done.stderr
    assert "permission denied. Check its owner and mode." in done.stderr
    (shared / "ours").mkdir()
    os.chown(shared / "ours", NOBODY, NOBODY)
    (shared / "slices" / "slice_003.tif").chmod(0o600)
    done = convert_as_nobody(shared / "slices", shared / "ours" / "ds", cwd=shared)
    assert done.returncode in (1, 2)
    assert "slice_003.tif" in done.stderr
    assert "permission" in done.stderr.lower()
    assert "Traceback" not in done.stderr
    (shared / "slices").chmod(0o700)
    done = convert_as_nobody(shared / "slices", shared / "ours" / "ds", cwd=shared)
    assert done.returncode in (1, 2)
    assert str(shared / "slices") in done.stderr
    assert "permission" in done.stderr.lower()
    assert "Traceback" not in done.stderr
    assert not list((shared / "ours").rglob("datasource-properties.json"))


def test_a_dataset_of_others_is_read_but_not_changed(shared):
    stack(shared / "slices", (20, 20, 6))
    wk.Dataset.from_images(shared / "slices", shared / "ds", (4, 4, 35), layer_name="em")
    before = contents(shared / "ds")
    done = as_nobody(sys.executable, "-m", "wkdask", "info", shared / "ds", cwd=shared)
    assert (done.returncode, done.stderr) == (0, "")
    for options in (("--layer-name", "b"), ("--overwrite-existing",)):
        done = convert_as_nobody(shared / "slices", shared / "ds", *options, cwd=shared)
        assert done.returncode == 1
        assert str(shared / "ds") in done.stderr
        assert "permission denied" in done.stderr
        assert "Traceback" not in done.stderr
    assert contents(shared / "ds") == before


@pytest.mark.parametrize("strategy", ["threads", "local"])
def test_everything_as_nobody_without_a_home(shared, strategy):
    volume = stack(shared / "slices", (150, 120, 40))
    os.chown(shared, NOBODY, NOBODY)
    done = convert_as_nobody(shared / "slices", shared / "ds", "--distribution-strategy", strategy, "--jobs", "2", cwd=shared)
    assert (done.returncode, done.stderr) == (0, "")
    np.testing.assert_array_equal(voxels(shared / "ds"), volume)
    script = f"import wkdask; wkdask.Dataset.open({str(shared / 'ds')!r}).get_layer('em').to_xarray()['1'].mean().compute()"
    done = as_nobody(sys.executable, "-c", script, cwd=shared)
    assert (done.returncode, done.stderr) == (0, "")


def test_compiled_kernels_as_nobody_without_a_home(shared):
    """The compiled kernels are cached in a folder of that user's own, and give the same voxels."""
    stack(shared / "slices", (150, 120, 40))
    os.chown(shared, NOBODY, NOBODY)
    script = (
        "import sys, wkdask.kernels.loader as loader\n"
        "loader.COMPILE_SECONDS = -1.0\n"
        "from wkdask.cli.app import run\n"
        "code = run()\n"
        "assert loader._State.compiled is not None\n"
        "sys.exit(code)"
    )
    words = ["convert", shared / "slices", shared / "ds", "--voxel-size", "4,4,35", "--layer-name", "em", "--progress", "none"]
    (shared / "tmp").mkdir()
    os.chown(shared / "tmp", NOBODY, NOBODY)
    done = as_nobody(sys.executable, "-c", script, *words, cwd=shared, env={"TMPDIR": str(shared / "tmp")})
    assert (done.returncode, done.stderr) == (0, "")
    cached = shared / "tmp" / f"wkdask-numba-{NOBODY}"
    assert [path for path in cached.rglob("*") if path.is_file()]
    assert cached.stat().st_mode & 0o77 == 0
    wk.Dataset.from_images(shared / "slices", shared / "numpy", (4, 4, 35), layer_name="em", downsample=True)
    for mag in ("1", "2-2-1", "4-4-1"):
        np.testing.assert_array_equal(voxels(shared / "ds", mag=mag), voxels(shared / "numpy", mag=mag))
    shutil.rmtree(cached)
