"""`python -m tests.support.campaign`: random faults on real servers, under clients whose histories are checked.

A campaign consists of rounds. In every second one, several faults happen at once. A round ends when everything has
arrived; then its histories are checked. The same seed repeats the faults and the workloads, as far as time allows. A
round with a violation leaves its history, its faults and the logs in a folder, and ends the campaign with status 1.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import secrets
import shutil
import sys
import time
from collections.abc import Collection, Sequence

from aidevos import Failure
from aidevos.durable.base.tasks import cancel_and_wait
from aidevos.durable.client.connection import connect
from aidevos.testing import write_history
from tests.support import workloads
from tests.support.campaign.clients import Items, follow_events, open_clients
from tests.support.campaign.faults import AT_ONCE, KINDS, Faults, Happened, prepare_disks
from tests.support.campaign.fleet import Fleet
from tests.support.campaign.report import Report
from tests.support.many_hosts import Owners
from tests.support.network import PRIVATE, can_be_private, find_network, private_command
from tests.support.paths import ROOT, temporary_folder
from tests.support.workloads import Client, Workloads

# Where failed rounds are kept.
KEPT = ROOT / "var" / "faults"
ROUND_SECONDS = 60.0
OVER_NATS, OVER_HTTP = 24, 8
OBJECTS = 8
# A client's pause between two operations, in seconds at most, unless the command says otherwise.
PAUSE = 0.03
# Seconds after the last fault by which everything must have arrived.
SETTLE_WITHIN = 60.0
SETTLE_EVERY = 0.5


class Campaign:
    """A fleet, and the rounds of one seed on it."""

    def __init__(self, fleet: Fleet, owners: Owners, faults: Faults, seed: int, pause: float) -> None:
        self.report = Report(seed)
        self._pause = pause
        self._fleet = fleet
        self._owners = owners
        self._faults = faults

    async def run_round(self, seconds: float) -> None:
        """Run a round, and add it to the report."""
        name = f"{self.report.seed} {self.report.rounds}"
        work = Workloads(random.Random(f"{name} work"), time.monotonic, OBJECTS, (*workloads.KINDS, Items))
        self._faults.happened.clear()
        self._faults.at_once = 1 if self.report.rounds % 2 else AT_ONCE
        async with (
            open_clients(self._fleet, OVER_NATS, OVER_HTTP) as clients,
            follow_events(self._fleet, work.see),
        ):
            checker = clients[-1]
            await work.prepare(checker)
            stopping = asyncio.Event()
            working = [asyncio.create_task(_work(client, work, self._pause, stopping)) for client in clients]
            await self._faults.run(random.Random(f"{name} faults"), seconds)
            stopping.set()
            await asyncio.gather(*working)
            violations = self._faults.unended + await self._settle(work, checker)
        self.report.crashes, self.report.logged = self._fleet.crashes, self._fleet.logged_errors()
        self.report.add(work.history, self._faults.happened, violations)
        if violations:
            self._keep(name.replace(" ", "-"), work, self._faults.happened, violations)

    async def _settle(self, workloads: Workloads, checker: Client) -> list[str]:
        """Wait until everything has arrived, and return the violations."""
        end, stuck = time.monotonic() + SETTLE_WITHIN, ["nothing was looked at"]
        while stuck and time.monotonic() < end:
            await asyncio.sleep(SETTLE_EVERY)
            stuck = await self._find_stuck(workloads, checker)
        try:
            return [f"stuck: {each}" for each in stuck] + await workloads.find_violations(checker)
        except Failure as failure:
            return [*(f"stuck: {each}" for each in stuck), f"an object doesn't answer: {failure!r}"]

    async def _find_stuck(self, workloads: Workloads, checker: Client) -> list[str]:
        try:
            stuck = await workloads.find_missing(checker)
        except Failure as failure:
            return [f"an object doesn't answer: {failure!r}"]
        outboxes = await asyncio.to_thread(self._fleet.outboxes)
        stuck += [f"{count} outboxes of {name}" for name, count in outboxes.items()]
        if not self._owners.are_even(range(len(self._fleet.members_of("objects")))):
            stuck.append("partitions that no live host owns, or one owns too many of")
        return stuck

    def _keep(self, name: str, workloads: Workloads, happened: Sequence[Happened], violations: Sequence[str]) -> None:
        """Keep what explains a failed round."""
        folder = KEPT / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_history(folder / "history.jsonl", workloads.history)
        (folder / "faults.txt").write_text("\n".join(map(str, happened)))
        (folder / "violations.txt").write_text("\n".join(violations))
        for log in self._fleet.folder.glob("*.log"):
            shutil.copy(log, folder)
        print(f"kept in {folder}")


async def run(seed: int, seconds: float, only: Collection[str], mutation: str, pause: float) -> Report:
    """Run a campaign of these kinds of faults for at least this long, or until a violation, and return its report."""
    network, folder = find_network(), temporary_folder("campaign")
    if network.can_cut:
        prepare_disks(folder)
    fleet = Fleet(network, folder, mutation)
    try:
        await fleet.start()
        connection = await connect(fleet.nats.nats_url("fleet"), "observer")
        owners = Owners(connection)
        watching = [asyncio.create_task(owners.follow()), asyncio.create_task(fleet.supervise())]
        campaign = Campaign(fleet, owners, Faults(fleet, connection, only), seed, pause)
        end = time.monotonic() + seconds
        while not campaign.report.violations and (left := end - time.monotonic()) > 0:
            await campaign.run_round(min(left, ROUND_SECONDS))
            print(f"round {campaign.report.rounds}: {campaign.report.summary}", flush=True)
        await cancel_and_wait(watching)
        await connection.close()
        return campaign.report
    finally:
        fleet.close()
        shutil.rmtree(folder, ignore_errors=True)


async def _work(client: Client, workloads: Workloads, pause: float, stopping: asyncio.Event) -> None:
    pauses = random.Random(client.name)
    while not stopping.is_set():
        await workloads.step(client)
        await asyncio.sleep(pauses.uniform(0.0, pause))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.support.campaign")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--only", default=",".join(KINDS), help="kinds of faults, separated by commas")
    parser.add_argument("--mutation", default="", help="a bug to put into the hosts, by its name")
    parser.add_argument("--pause", type=float, default=PAUSE, help="a client's longest pause, in seconds")
    arguments = parser.parse_args()
    if PRIVATE not in os.environ and can_be_private():
        command = private_command("tests.support.campaign", *sys.argv[1:], "--seed", str(arguments.seed))
        os.execvp(command[0], command)
    print(f"seed {arguments.seed}", flush=True)
    kinds, seconds = arguments.only.split(","), arguments.minutes * 60
    report = asyncio.run(run(arguments.seed, seconds, kinds, arguments.mutation, arguments.pause))
    print(report)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
