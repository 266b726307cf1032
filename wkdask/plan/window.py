"""Which batches can run now: asked one after the other, so that neither tasks nor what they wait for are ever listed."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence

from wkdask.plan.plan import Plan
from wkdask.plan.receipt import Receipt
from wkdask.plan.stage import Batch

FRONTIER = 1024
"""Batches of one stage that are known to wait, or can run, before any has been asked for."""

OPEN, DONE, LOST = 0, 1, 2

Key = tuple[int, int]
"""A batch: its stage, and its place among the batches of that."""


class Done:
    """Which tasks of a plan are done: one bit for each.

    Examples
    --------
    >>> done = Done([10, 3], {1: {0, 2}})
    >>> done.missing(1, range(3)), done.add(1, 1), done.add(1, 1), done.left
    ((1,), True, False, [10, 0])
    """

    def __init__(self, counts: Iterable[int], done: Mapping[int, Iterable[int]]) -> None:
        self._counts = list(counts)
        self._bits = [bytearray(-(-count // 8)) for count in self._counts]
        self.left = list(self._counts)
        for stage, numbers in done.items():
            for number in numbers:
                self.add(stage, number)

    def add(self, stage: int, number: int) -> bool:
        """Note that a task is done; return whether that is new."""
        bits, at, bit = self._bits[stage], number >> 3, 1 << (number & 7)
        if bits[at] & bit:
            return False
        bits[at] |= bit
        self.left[stage] -= 1
        return True

    def has(self, stage: int, number: int) -> bool:
        """Whether a task is done."""
        return bool(self._bits[stage][number >> 3] & (1 << (number & 7)))

    def missing(self, stage: int, numbers: Sequence[int]) -> Sequence[int]:
        """Return which of some tasks are not done yet; the very ones given where none is."""
        if self.left[stage] == self._counts[stage]:
            return numbers
        left = tuple(number for number in numbers if not self.has(stage, number))
        return numbers if len(left) == len(numbers) else left


def batch_needs(plan: Plan, batch: Batch, size: int) -> list[Key]:
    """Return the batches, of ``size`` tasks, that a batch reads from, some perhaps several times.

    Operations that know it say for adjacent tasks together what they need, as runs of tasks; others are asked for each.
    """
    operation = plan.stages[batch.stage].operation
    together = getattr(operation, "dependencies_of", None)
    found: list[Key] = []
    before = None
    if together is not None and isinstance(batch.numbers, range):
        for stage, run in together(batch.numbers):
            key = stage, (run.stop - 1) // size
            if key != before:
                found += [(stage, index) for index in range(run.start // size, key[1])]
                found.append(key)
                before = key
        return found
    for number in batch.numbers:
        for stage, need in operation.dependencies(number):
            if (key := (stage, need // size)) != before:
                found.append(key)
                before = key
    return found


class Window:
    """The batches of a plan that can run, those that wait for others, and what can never run.

    What a finished batch frees comes first, so that parts are used up soon. A batch waits for the last of those that it needs,
    then for the last that is not done yet: mostly there is none. Batches far behind the frontier are not known at all.

    Parameters
    ----------
    plan
        Whose batches.
    done
        The tasks that are done already; the window keeps looking at it.
    """

    def __init__(self, plan: Plan, done: Done) -> None:
        self.done = done
        self.lost: deque[Batch] = deque()
        """Batches that can not run because others failed; whoever tells of them takes them out."""
        self._plan, self.size = plan, plan.batch_size
        self._counts = counts = [stage.count for stage in plan.stages]
        self._states = [bytearray(-(-count // self.size)) for count in counts]
        self._looked = [0] * len(counts)
        self._waiting = [0] * len(counts)
        self._ready: list[deque[Batch]] = [deque() for _ in counts]
        self._freed: deque[Batch] = deque()
        self._later: deque[Batch] = deque()
        self._queues = (self._freed, *self._ready, self._later)
        self._unseen = tuple(range(len(counts)))
        self._wakes: dict[Key, list[tuple[Batch, list[Key]]]] = defaultdict(list)
        for stage, count in enumerate(counts):
            if done.left[stage] < count:
                self._skip_done(stage, count)

    def _skip_done(self, stage: int, count: int) -> None:
        missing = Counter(n // self.size for n in range(count) if not self.done.has(stage, n))
        for index in range(len(self._states[stage])):
            if not missing[index]:
                self._states[stage][index] = DONE

    def key(self, batch: Batch) -> Key:
        """Return what a batch is called, however many of its tasks are left."""
        return batch.stage, batch.numbers[0] // self.size

    def batch(self, key: Key) -> Batch:
        """Return what is left of a batch."""
        stage, index = key
        stop = min((index + 1) * self.size, self._counts[stage])
        return Batch(stage, self.done.missing(stage, range(index * self.size, stop)))

    def has(self, receipt: Receipt) -> bool:
        """Whether a receipt is of a task of the plan."""
        return 0 <= receipt.stage < len(self._counts) and 0 <= receipt.number < self._counts[receipt.stage]

    def is_batch(self, key: Key) -> bool:
        """Whether there is a batch of this name."""
        return key[0] < len(self._states) and key[1] < len(self._states[key[0]])

    def is_open(self, key: Key) -> bool:
        """Whether a batch is neither done nor lost."""
        return self._states[key[0]][key[1]] == OPEN

    def take(self) -> Batch | None:
        """Return a batch that can run now: what was freed last, else the first of the first stage that has one."""
        for stage in self._unseen:
            if self._waiting[stage] + len(self._ready[stage]) < FRONTIER:
                self._look(stage)
        for queue in self._queues:
            while queue:
                batch = queue.popleft()
                if self.is_open(self.key(batch)):
                    return batch
        return None

    def put_back(self, batch: Batch) -> None:
        """Take a batch back, to be run when nothing else can."""
        self._later.append(batch)

    def finished(self, key: Key, failed: bool = False) -> None:
        """Note that a batch is done or can not be, and free what waited for it."""
        stage, index = key
        if self._states[stage][index] != OPEN:
            return
        self._states[stage][index] = LOST if failed else DONE
        for batch, needs in self._wakes.pop(key, ()):
            self._waiting[batch.stage] -= 1
            self._settle(batch, needs)

    def _look(self, stage: int) -> None:
        """Look at further batches of a stage until enough are known."""
        states = self._states[stage]
        while self._looked[stage] < len(states) and self._waiting[stage] + len(self._ready[stage]) < FRONTIER:
            index = self._looked[stage]
            self._looked[stage] += 1
            if states[index] != OPEN:
                continue
            batch = self.batch((stage, index))
            needs = batch_needs(self._plan, batch, self.size)
            if needs:
                self._settle(batch, needs)
            else:
                self._ready[stage].append(batch)
        if self._looked[stage] == len(states):
            self._unseen = tuple(other for other in self._unseen if other != stage)

    def _settle(self, batch: Batch, needs: list[Key]) -> None:
        """Let a batch wait for the last that is not done; where none is left, free it; where one was lost, lose it."""
        while needs:
            need = needs[-1]
            state = self._states[need[0]][need[1]]
            if state == LOST:
                self.lost.append(batch)
                self.finished(self.key(batch), failed=True)
                return
            if state == OPEN:
                self._wakes[need].append((batch, needs))
                self._waiting[batch.stage] += 1
                return
            needs.pop()
        self._freed.appendleft(batch)
