"""`python -m tests.bench.guard`: fails if a hot path takes more instructions than recorded; `--renew` records them."""

from __future__ import annotations

import argparse
import shutil
import sys

from aidevos.settings import SettingsError
from deploy.local.packages import Need, provide
from tests.bench.guard import counts, figures

VALGRIND = Need(
    "valgrind",
    ("valgrind",),
    "put valgrind and callgrind_control on the PATH",
    lambda: all(map(shutil.which, ("valgrind", "callgrind_control"))),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.guard", description=__doc__)
    parser.add_argument("--renew", action="store_true", help="record the counts of this code on this machine")
    renew = parser.parse_args().renew
    recorded, platform = figures.read(), counts.platform_key()
    if recorded.platform != platform and not renew:
        print(f"Nothing to compare: the figures are those of {recorded.platform}, and this is {platform}.")
        return 0
    try:
        provide([VALGRIND])
        counted = counts.count()
    except (SettingsError, counts.CountingFailed) as error:
        print(error, file=sys.stderr)
        return 2
    verdict = figures.judge(recorded.paths, counted)
    print("Thousands of instructions per request, beside the recorded figures:")
    print("\n".join(verdict.lines))
    if renew:
        figures.write(figures.Figures(platform, counted))
        return 0
    return int(verdict.failed)


if __name__ == "__main__":
    sys.exit(main())
