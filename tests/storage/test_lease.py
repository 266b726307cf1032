"""Leases: polite, named, and never in the way of the living."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from uuid import uuid4

import pytest

from tests.storage.racing import race
from wkdask.errors import LockedError, StorageError
from wkdask.storage import Lease, Location, Owner, lease


@pytest.fixture(params=["local", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    if request.param == "s3":
        return request.getfixturevalue("s3").place / ".wkdask" / "run.json"  # type: ignore[no-any-return]
    root = str(tmp_path / "ds") if request.param == "local" else f"memory://{uuid4().hex}/ds"
    return Location(root) / ".wkdask" / "run.json"


def owner(**changes: object) -> Owner:
    """Return an owner that is this very process, changed."""
    me = Lease(Location("memory://nowhere/x"), "other work")._owner
    return replace(me, **changes)  # type: ignore[arg-type]


def leave(place: Location, holder: Owner) -> None:
    place.write_bytes(json.dumps(asdict(holder)).encode())


def test_the_second_is_told_who_has_it(place: Location) -> None:
    with Lease(place, "downsampling of color"), pytest.raises(LockedError) as caught, Lease(place, "other"):
        pass
    for word in (str(place.parent.parent), socket.gethostname(), str(os.getpid()), "downsampling of color"):
        assert word in str(caught.value)
    assert caught.value.exit_code == 6
    with Lease(place, "afterwards"):
        assert place.is_file()
    assert not place.is_file()


def test_it_is_given_up_after_an_error_too(place: Location) -> None:
    with pytest.raises(KeyError), Lease(place, "work"):
        raise KeyError
    assert not place.is_file()


def test_a_dead_process_holds_nothing(place: Location) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    leave(place, owner(pid=ended.pid))
    with Lease(place, "mine"):
        assert b"mine" in place.read_bytes()


def test_a_process_id_that_was_given_again_is_not_the_owner(place: Location) -> None:
    leave(place, owner(started=owner().started - 1000))
    with Lease(place, "mine"):
        pass


def test_a_process_on_another_machine_counts_until_it_is_silent(place: Location) -> None:
    silent = time.time() - lease.VOID_SECONDS
    leave(place, owner(host="elsewhere", pid=1, started=1.0, renewed=silent + 10))
    with pytest.raises(LockedError, match="process 1 on elsewhere"), Lease(place, "mine"):
        pass
    leave(place, owner(host="elsewhere", pid=1, started=1.0, renewed=silent - 1))
    with Lease(place, "mine"):
        pass


def test_a_living_owner_that_is_silent_has_lost_it(place: Location) -> None:
    leave(place, owner(renewed=time.time() - lease.VOID_SECONDS - 1))
    with Lease(place, "mine"):
        assert b"mine" in place.read_bytes()


def test_a_lease_of_the_future_is_believed_as_long_as_any(place: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner's clock goes wrong by years; the time of its file counts, which is of now."""
    leave(place, owner(host="elsewhere", renewed=time.time() + 10**9))
    with pytest.raises(LockedError, match="elsewhere"), Lease(place, "mine"):
        pass
    if place.is_local:
        os.utime(place.url, (0, time.time() - lease.VOID_SECONDS - 1))
    else:
        monkeypatch.setattr(lease, "VOID_SECONDS", 0)
    with Lease(place, "mine"):
        assert b"mine" in place.read_bytes()


def test_where_all_clocks_go_wrong_nobody_is_held_up(tmp_path: Path) -> None:
    place, later = Location(str(tmp_path)) / ".wkdask" / "run.json", time.time() + 10**9
    leave(place, owner(host="elsewhere", renewed=later))
    os.utime(place.url, (later, later))
    with Lease(place, "mine"):
        pass


BROKEN = (b"", b"{", b"[]", b"{}", b"\xff", b'"x"', b"[" * 12_000, b" " * (1 << 20))
WRONG = ({"pid": "x"}, {"renewed": "x"}, {"renewed": float("nan")}, {"renewed": 10**400}, {"since": 1e300}, {"token": []})


@pytest.mark.parametrize("content", [*BROKEN, *WRONG], ids=lambda content: str(content)[:40])
def test_a_broken_lease_file_holds_nobody_up(place: Location, content: bytes | dict[str, object]) -> None:
    broken = json.dumps({**asdict(owner()), **content}).encode() if isinstance(content, dict) else content
    place.write_bytes(broken)
    with Lease(place, "mine"):
        pass


def test_only_the_own_lease_is_given_up(place: Location) -> None:
    taken = owner(token="another", host="elsewhere")
    with Lease(place, "mine") as mine:
        mine.release("not mine")
        assert place.is_file()
        leave(place, taken)
    assert Owner.of_bytes(place.read_bytes()) == taken


def test_it_is_renewed_until_another_has_it(place: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.01)
    with Lease(place, "mine") as mine:
        first = lease.current_owner(place)
        deadline = time.monotonic() + 5
        while (found := lease.current_owner(place)) == first and time.monotonic() < deadline:
            time.sleep(0.005)
        assert found and first and found.renewed > first.renewed and found.since == first.since and found.token == mine.token
        taken = owner(token="another")
        while lease.current_owner(place) != taken and time.monotonic() < deadline:
            leave(place, taken)  # a renewal may just be under way
            time.sleep(0.05)
        mine._renewer.join(5)
        assert not mine._renewer.is_alive()
        assert lease.current_owner(place) == taken


def test_errors_of_the_store_do_not_end_the_renewing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.01)
    place = Location(str(tmp_path / "ds/.wkdask/run.json"))
    real, calls = lease.current_owner, [0]

    def unsteady(place: Location) -> Owner | None:
        calls[0] += 1
        if calls[0] < 4:
            raise StorageError("not now")
        return real(place)

    with Lease(place, "mine") as mine:
        first = real(place)
        monkeypatch.setattr(lease, "current_owner", unsteady)
        deadline = time.monotonic() + 5
        while real(place) == first and time.monotonic() < deadline:
            time.sleep(0.005)
        assert mine._renewer.is_alive() and calls[0] >= 4
        assert real(place) != first
    assert not place.is_file()


def test_one_of_eight_processes_holds_it(tmp_path: Path) -> None:
    said = race(
        tmp_path,
        """
from wkdask.errors import LockedError
try:
    with Lease(Location(str(folder / "ds/.wkdask/run.json")), me):
        print("mine")
        while len(list(folder.glob("over-*"))) < 7:
            time.sleep(0.01)
except LockedError as error:
    print("taken" if "process" in str(error) else error)
    (folder / f"over-{me}").touch()
""",
    )
    assert sorted(said) == ["mine", *["taken"] * 7]


def test_the_dead_are_followed_by_one_alone(place: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process takes over, whole, just after this one has seen that the owner is gone."""
    leave(place, owner(renewed=0.0))
    other, real = Lease(place, "the quicker"), Owner.of_bytes
    monkeypatch.setattr(Owner, "of_bytes", lambda data: (monkeypatch.undo(), other.__enter__(), real(data))[2])
    with pytest.raises(LockedError, match="the quicker"), Lease(place, "the slower"):
        pass
    holder = lease.current_owner(place)
    assert holder is not None and holder.token == other.token
    other.__exit__(None, None, None)
    assert not place.parent.names()


def test_who_dies_while_taking_over_blocks_nobody(place: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(place, owner(renewed=0.0))
    killed = Lease(place, "killed")
    with monkeypatch.context() as patched:
        patched.setattr(Location, "delete", lambda self: None)
        patched.setattr(Location, "write_bytes", lambda self, data: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            killed.__enter__()
    with pytest.raises(LockedError, match="killed"), Lease(place, "mine"):
        pass
    monkeypatch.setattr(lease, "_given_up", {killed.token})
    with Lease(place, "mine"):
        assert b"mine" in place.read_bytes() and place.parent.names() == ["run.json"]
    assert not place.parent.names()


def test_one_of_several_processes_follows_the_dead(tmp_path: Path) -> None:
    rounds, count = 15, 3
    for n in range(rounds):
        leave(Location(str(tmp_path / f"ds{n}/.wkdask/run.json")), owner(renewed=0.0))
    said = race(
        tmp_path,
        f"""
from wkdask.errors import LockedError

def meet(sign):
    (folder / f"{{sign}}-{{me}}").touch()
    while not all((folder / f"{{sign}}-{{other}}").exists() for other in range({count})):
        time.sleep(0)

for n in range({rounds}):
    held = Lease(Location(str(folder / f"ds{{n}}/.wkdask/run.json")), me)
    meet(f"try{{n}}")
    try:
        held.__enter__()
        print(n, end=" ")
        meet(f"tried{{n}}")
        held.__exit__(None, None, None)
    except LockedError:
        meet(f"tried{{n}}")
""",
        count,
    )
    assert sorted(int(n) for one in said for n in one.split()) == list(range(rounds))


def test_a_claim_made_since_we_looked_is_not_ours(place: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(place, owner(renewed=0.0))
    digest, real = hashlib.sha256(place.read_bytes()).hexdigest()[:16], Location.names
    claim = place.parent / f"run.json.{digest}.0.tmp"

    def listed(folder: Location) -> list[str]:
        monkeypatch.undo()
        found = real(folder)
        leave(claim, owner(work="the quicker"))
        return found

    monkeypatch.setattr(Location, "names", listed)
    with pytest.raises(LockedError, match="the quicker"), Lease(place, "the slower"):
        pass
    assert Owner.of_bytes(claim.read_bytes()).work == "the quicker"  # type: ignore[union-attr]


def test_who_can_not_look_whether_there_are_others_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Location(f"memory://{uuid4().hex}/ds/doc.turns")

    def fail(*_: object) -> list[str]:
        raise StorageError("the folder can not be listed")

    with monkeypatch.context() as patched:
        patched.setattr(Location, "names", fail)
        with pytest.raises(StorageError, match="can not be listed"), lease.alone(turns, "changing doc"):
            pass
    assert turns.names() == []
