"""Workloads with known histories, and what must hold of them whatever fails; shared by all proofs of the guarantees.

They know neither servers nor clocks: a client brings the calls, and the recorder the time. A workload takes random
`step`s while faults happen. Once these are over, `find_missing` says what hasn't arrived yet, and when nothing is
missing, `find_violations` says what contradicts the promises of the product.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from aidevos.testing import Model, Operation, Outcome, Recorder, Refusal, Unknown, Value, check_linearizable
from services.objects.account import Account
from tests.support.fault_objects import Ledger, Name, Tally

# The classes that a fleet serves for these workloads.
CLASSES = (Tally, Ledger, Account, Name)

Kind = type[Outcome]
# Calls a method of an object, by type, ID, method and arguments. Raises `Failure`.
Call = Callable[[str, str, str, Mapping[str, Any]], Awaitable[Any]]
# Stores a tell under a message ID, and returns once it is stored. Raises `Failure`.
Tell = Callable[[str, str, str, Mapping[str, Any], str], Awaitable[None]]


# Sends a request over HTTP, by method, path, headers and body, and returns the ETag and the body. Raises `Failure`.
Send = Callable[[str, str, Mapping[str, str], Any], Awaitable[tuple[str, Any]]]


class Client(NamedTuple):
    """A client, which does one thing at a time. Only clients of NATS can `tell`, and only those of HTTP `send`.

    `once` sends a request a single time and without a request ID.
    """

    name: str
    call: Call
    tell: Tell | None = None
    send: Send | None = None
    once: Call | None = None


class Workload:
    """Operations of one kind on `count` objects."""

    type: str
    # The method that a step reads an object with.
    query: str
    # How often a client chooses this workload, in relation to others.
    weight = 2
    # The share of steps that read.
    reads = 0.3

    def __init__(self, random: random.Random, recorder: Recorder, count: int = 8) -> None:
        self.recorder = recorder
        self._random = random
        # The same seed makes the same objects, in a namespace of its own.
        self.ids = [f"{self.type}{number}-{random.getrandbits(48):012x}" for number in range(count)]
        self._numbers = 0

    async def prepare(self, client: Client) -> None:
        """Do what the objects need before any fault."""

    async def step(self, client: Client) -> None:
        """Do one random operation."""
        id = self._random.choice(self.ids)
        if self._random.random() < self.reads:
            self._note_read(id, await self._do(client, id, self.query))
        else:
            await self._act(client, id)

    async def _act(self, client: Client, id: str) -> None:
        """Do something to an object."""
        raise NotImplementedError

    def _note_read(self, id: str, seen: Outcome) -> None:
        """Note what a read has shown."""

    async def find_missing(self, client: Client) -> list[str]:
        """Return what is on its way. Raises `Failure` while an object doesn't answer."""
        return []

    async def find_violations(self, client: Client) -> list[str]:
        """Return what is wrong. Raises `Failure` if an object doesn't answer."""
        raise NotImplementedError

    async def _do(self, client: Client, id: str, method: str, **arguments: Any) -> Outcome:
        answer = client.call(self.type, id, method, **arguments)
        return await self.recorder.record(client.name, f"{self.type}:{id}", method, arguments, answer)

    def _next(self) -> int:
        self._numbers += 1
        return self._numbers


class Linearizable(Workload):
    """Operations whose answers a sequential model explains, down to a last read of each object when all is over.

    One object must also take a last command then, if there is one without arguments.
    """

    model: Model[Any]
    last_command = ""

    async def find_violations(self, client: Client) -> list[str]:
        last = Recorder(self.recorder.now)
        command = [(self.ids[0], self.last_command)] if self.last_command else []
        for id, method in [*command, *((id, self.query) for id in self.ids)]:
            answer = client.call(self.type, id, method)
            await last.record(client.name, f"{self.type}:{id}", method, {}, answer)
        unanswered = [str(each) for each in last.operations if not isinstance(each.outcome, Value)]
        history = [*self.recorder.operations, *last.operations]
        return unanswered + [str(each) for each in check_linearizable(history, self.model)]


class Counters(Linearizable):
    """Counters that clients increment and read."""

    type, query, weight = "tally", "value", 6
    last_command = "add"

    async def _act(self, client: Client, id: str) -> None:
        await self._do(client, id, "add")


def _count(state: int, method: str, arguments: Mapping[str, Any]) -> tuple[int, int]:
    return (state, state) if method == "value" else (state + 1, state + 1)


Counters.model = Model(0, _count, queries=frozenset({"value"}))


class Registers(Linearizable):
    """Registers with compare-and-set, where each value is written once at most."""

    type, query, weight = "ledger", "value", 4

    def __init__(self, random: random.Random, recorder: Recorder, count: int = 8) -> None:
        super().__init__(random, recorder, count)
        self._latest = dict.fromkeys(self.ids, 0)

    def _note_read(self, id: str, seen: Outcome) -> None:
        if isinstance(seen, Value):
            self._latest[id] = seen.result

    async def _act(self, client: Client, id: str) -> None:
        old, new = self._latest[id], self._next()
        seen = await self._do(client, id, "swap", old=old, new=new)
        if isinstance(seen, Value):
            self._latest[id] = new if seen.result == old else seen.result


def _swap(state: int, method: str, arguments: Mapping[str, Any]) -> tuple[int, int]:
    return (arguments["new"] if method == "swap" and state == arguments["old"] else state), state


Registers.model = Model(0, _swap, queries=frozenset({"value"}))


class Names(Linearizable):
    """Unique names: a claim creates an object that must not exist, and a release deletes it."""

    type, query, weight = "name", "holder", 2

    def __init__(self, random: random.Random, recorder: Recorder, count: int = 8) -> None:
        super().__init__(random, recorder, count)
        self._holders = dict.fromkeys(self.ids, "")

    def _note_read(self, id: str, seen: Outcome) -> None:
        if isinstance(seen, Value):
            self._holders[id] = seen.result

    async def _act(self, client: Client, id: str) -> None:
        if self._random.random() < 2 / 3:
            await self._do(client, id, "claim", holder=f"{client.name}.{self._next()}")
        else:
            await self._do(client, id, "release", holder=self._holders[id])


def _hold(state: str, method: str, arguments: Mapping[str, Any]) -> tuple[str, Any]:
    match method:
        case "claim":
            return (state, Refusal("exists")) if state else (arguments["holder"], None)
        case "release":
            return ("", None) if state and state == arguments["holder"] else (state, Refusal("not-holder"))
    return state, state


Names.model = Model("", _hold, queries=frozenset({"holder"}), refusals=frozenset({"exists", "not-holder"}))


class Events(Counters):
    """Counters that emit an event for each increment; whoever follows the events reports them to `see`."""

    weight = 2

    def __init__(self, random: random.Random, recorder: Recorder, count: int = 8) -> None:
        super().__init__(random, recorder, count)
        self._seen: dict[str, list[int]] = {id: [] for id in self.ids}

    def see(self, id: str, value: int) -> None:
        """Note the event of an object with this ID, in the order of arrival. Other objects are ignored."""
        if id in self._seen:
            self._seen[id].append(value)

    async def _act(self, client: Client, id: str) -> None:
        await self._do(client, id, "announce")

    async def find_missing(self, client: Client) -> list[str]:
        missing = []
        for id, seen in self._seen.items():
            value = await client.call(self.type, id, "value")
            unseen = set(range(1, value + 1)) - set(seen)
            missing += [f"event {min(unseen)} of {id} and {len(unseen) - 1} more"] if unseen else []
        return missing

    async def find_violations(self, client: Client) -> list[str]:
        violations = await super().find_violations(client)
        for id, seen in self._seen.items():
            once = list(dict.fromkeys(seen))
            if once != list(range(1, len(once) + 1)):
                violations.append(f"the events of tally:{id} came in the order {_around_gap(once)}")
        return violations


class Transfers(Workload):
    """Transfers between the accounts of a ledger, one unit of money each."""

    type, query, weight = "account", "balance", 3
    START = 1000

    async def prepare(self, client: Client) -> None:
        for id in self.ids:
            await client.call(self.type, id, "deposit", amount=self.START)

    async def _act(self, client: Client, id: str) -> None:
        to = self._random.choice([each for each in self.ids if each != id])
        await self._do(client, id, "transfer", to=to, amount=1)

    async def find_missing(self, client: Client) -> list[str]:
        found = {id: await client.call(self.type, id, "balance") for id in self.ids}
        return [f"{each['under_way']} transfers of account:{id}" for id, each in found.items() if each["under_way"]]

    async def find_violations(self, client: Client) -> list[str]:
        found = {id: (await client.call(self.type, id, "balance"))["balance"] for id in self.ids}
        total, expected = sum(found.values()), self.START * len(self.ids)
        violations = [] if total == expected else [f"the accounts hold {total} instead of {expected}"]
        done, open = self._count(Value), self._count(Unknown)
        for id, balance in found.items():
            settled = self.START + done[1][id] - done[0][id]
            if not settled - open[0][id] <= balance <= settled + open[1][id]:
                bounds = f"{settled} - {open[0][id]} to {settled} + {open[1][id]}"
                violations.append(f"account:{id} holds {balance}, outside of {bounds}")
            violations += self._find_stale_reads(id)
        return violations

    def _find_stale_reads(self, id: str) -> list[str]:
        """Return the reads of an account that show less of what it had sent by then, or more of what it could get."""
        operations = [each for each in self.recorder.operations if not isinstance(each.outcome, Refusal)]
        reads = [each for each in operations if each.object.endswith(f":{id}") and each.method == "balance"]
        transfers = [each for each in operations if each.method == "transfer"]
        debits = sorted(each.ended for each in transfers if each.object.endswith(f":{id}"))
        credits = sorted(each.called for each in transfers if each.arguments["to"] == id)
        violations = []
        for read in reads:
            if isinstance(read.outcome, Value):
                most = self.START - bisect_left(debits, read.called) + bisect_right(credits, read.returned)
                if read.outcome.result["balance"] > most:
                    violations.append(f"account:{id} can hold {most} at most: {read}")
        return violations

    def _count(self, kind: Kind) -> tuple[Counter[str], Counter[str]]:
        """Return how many transfers with this kind of outcome each account has sent, and has been sent."""
        operations = [each for each in self.recorder.operations if each.method == "transfer"]
        transfers = [each for each in operations if isinstance(each.outcome, kind)]
        sent = Counter(each.object.partition(":")[2] for each in transfers)
        return sent, Counter(each.arguments["to"] for each in transfers)


class Tells(Workload):
    """Numbers that ledgers are told: directly, by other objects, and by tells that clients store."""

    type, query, weight = "ledger", "progress", 3
    ways: Sequence[str] = ("note", "source", "source", "once", "tell")

    async def _act(self, client: Client, id: str) -> None:
        to, number = id, self._next()
        way = self._random.choice(self.ways)
        match "once" if way == "tell" and client.tell is None else way:
            case "note":
                await self._do(client, to, "note", number=number)
            case "tell" if client.tell is not None:
                arguments = {"to": to, "number": number}
                stored = client.tell(self.type, to, "note", {"number": number}, f"{to}.{number}")
                await self.recorder.record(client.name, f"tell.{client.name}", "store", arguments, stored)
            case "once":
                # Nobody calls this object again, so that only its owner can find what it has left to send.
                await self._do(client, f"once-{self._random.getrandbits(64):x}", "pass_on", to=to, number=number)
            case _:
                await self._do(client, f"{client.name}-{self.ids[0]}", "pass_on", to=to, number=number)

    async def find_missing(self, client: Client) -> list[str]:
        missing = []
        for id, numbers in self._sent(Value).items():
            unheard = set(numbers) - set(await self._read(client, id))
            missing += [f"tell {min(unheard)} to ledger:{id} and {len(unheard) - 1} more"] if unheard else []
        return missing

    async def find_violations(self, client: Client) -> list[str]:
        sent, unknown = self._sent(Value), self._sent(Unknown)
        violations = []
        for id in self.ids:
            told, all = await self._read(client, id), set(sent[id]) | set(unknown[id])
            violations += [f"ledger:{id} was told {n} {count} times" for n, count in Counter(told).items() if count > 1]
            violations += [f"ledger:{id} was not told {number}" for number in set(sent[id]) - set(told)]
            violations += [f"ledger:{id} was told {number} by nobody" for number in set(told) - all]
            violations += self._find_disorder(id, told)
            violations += find_setbacks(self.recorder.operations, f"{self.type}:{id}")
        return violations

    def _find_disorder(self, id: str, told: Sequence[int]) -> list[str]:
        """Return the tells of one object that overtook another one."""
        places = {number: place for place, number in enumerate(told)}
        sources: dict[str, list[Operation]] = {}
        for each in sorted(self._to(id, Value), key=lambda each: each.called):
            sources.setdefault(each.object, []).append(each)
        return [
            f"ledger:{id} was told {later.arguments['number']} before {earlier.arguments['number']} by {source}"
            for source, operations in sources.items()
            for earlier, later in pairwise(operations)
            if earlier.returned < later.called
            and places.get(later.arguments["number"], len(told)) < places.get(earlier.arguments["number"], -1)
        ]

    async def _read(self, client: Client, id: str) -> list[int]:
        told: list[int] = (await client.call(self.type, id, "history"))["told"]
        return told

    def _sent(self, kind: Kind) -> dict[str, list[int]]:
        return {id: [each.arguments["number"] for each in self._to(id, kind)] for id in self.ids}

    def _to(self, id: str, kind: Kind) -> list[Operation]:
        """Return the operations with this kind of outcome that told a ledger something."""
        return [
            each
            for each in self.recorder.operations
            if isinstance(each.outcome, kind)
            and each.method != "progress"
            and each.arguments.get("to", each.object.partition(":")[2]) == id
        ]


class Alarms(Workload):
    """Alarms, of which each rings once."""

    type, query, weight = "ledger", "progress", 1
    # Seconds until an alarm rings.
    SOON = (0.1, 2.0)

    async def _act(self, client: Client, id: str) -> None:
        seconds = round(self._random.uniform(*self.SOON), 3)
        await self._do(client, id, "ring", name=f"n{self._next()}", seconds=seconds)

    async def find_missing(self, client: Client) -> list[str]:
        missing = []
        for id, (due, _, rung) in (await self._read(client)).items():
            silent = due - rung.keys()
            missing += [f"alarm {min(silent)} of ledger:{id} and {len(silent) - 1} more"] if silent else []
        return missing

    async def find_violations(self, client: Client) -> list[str]:
        violations = []
        for id, (due, possible, rung) in (await self._read(client)).items():
            violations += [f"alarm {name} of ledger:{id} rang {n} times" for name, n in rung.items() if n > 1]
            violations += [f"alarm {name} of ledger:{id} never rang" for name in due - rung.keys()]
            violations += [f"alarm {name} of ledger:{id} was set by nobody" for name in rung.keys() - due - possible]
            violations += find_setbacks(self.recorder.operations, f"{self.type}:{id}")
        return violations

    async def _read(self, client: Client) -> dict[str, tuple[set[str], set[str], Counter[str]]]:
        """Return the alarms of each object that must ring, those that may, and those that have."""
        return {
            id: (
                self._names(id, Value),
                self._names(id, Unknown),
                Counter((await client.call(self.type, id, "history"))["rung"]),
            )
            for id in self.ids
        }

    def _names(self, id: str, kind: Kind) -> set[str]:
        mine = (each for each in self.recorder.operations if each.object == f"{self.type}:{id}")
        return {each.arguments["name"] for each in mine if each.method == "ring" and isinstance(each.outcome, kind)}


def find_setbacks(operations: Iterable[Operation], object: str) -> list[str]:
    """Return the reads of a ledger's progress that show less than an earlier one did."""
    reads = [each for each in operations if each.object == object and each.method == "progress"]
    answered = [(each, each.outcome.result) for each in reads if isinstance(each.outcome, Value)]
    returned = deque(sorted(answered, key=lambda read: read[0].returned))
    violations, seen = [], (0, 0)
    for read, shown in sorted(answered, key=lambda read: read[0].called):
        while returned[0][0].returned < read.called:
            told, rung = returned.popleft()[1]
            seen = (max(seen[0], told), max(seen[1], rung))
        if shown[0] < seen[0] or shown[1] < seen[1]:
            violations.append(f"{object} had shown {seen} before: {read}")
    return violations


KINDS: tuple[type[Workload], ...] = (Counters, Registers, Names, Events, Transfers, Tells, Alarms)


class Workloads:
    """One workload of each kind, of which each step takes one at random."""

    def __init__(
        self,
        random: random.Random,
        now: Callable[[], float],
        count: int = 8,
        kinds: Iterable[type[Workload]] = KINDS,
    ) -> None:
        """`count` is the number of objects of each kind."""
        self.all = [kind(random, Recorder(now), count) for kind in kinds]
        self._weights = list(accumulate(each.weight for each in self.all))
        self._random = random

    @property
    def history(self) -> list[Operation]:
        """All operations so far."""
        return [operation for each in self.all for operation in each.recorder.operations]

    def see(self, id: str, value: int) -> None:
        """Note an event `Added` of a counter with this ID, in the order of arrival."""
        for each in self.all:
            if isinstance(each, Events):
                each.see(id, value)

    async def prepare(self, client: Client) -> None:
        for each in self.all:
            await each.prepare(client)

    async def step(self, client: Client) -> None:
        await self._random.choices(self.all, cum_weights=self._weights)[0].step(client)

    async def find_missing(self, client: Client) -> list[str]:
        """Return what is on its way. Raises `Failure` while an object doesn't answer."""
        return [missing for each in self.all for missing in await each.find_missing(client)]

    async def find_violations(self, client: Client) -> list[str]:
        """Return what is wrong. Raises `Failure` if an object doesn't answer."""
        return [violation for each in self.all for violation in await each.find_violations(client)]


def _around_gap(once: Sequence[int]) -> str:
    """Return the surroundings of the first number that doesn't follow the one before it."""
    place = next(n for n, value in enumerate(once) if value != n + 1)
    return f"… {', '.join(map(str, once[max(0, place - 2) : place + 3]))} …"
