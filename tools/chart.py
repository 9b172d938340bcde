"""`python -m tools.chart`: renew the rendered examples of the Helm chart. With a file of values, print what they give.

Helm itself renders them: a library in the process. What it needs is in `tools/chart.lock`, which `make lint` installs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import helm_python as helm

KUBERNETES = Path(__file__).parents[1] / "deploy/kubernetes"
CHART = KUBERNETES / "chart"
EXAMPLES = KUBERNETES / "examples"
NAME = "aidevos"
VALUES = ".values.yaml"


def main(arguments: list[str]) -> int:
    if arguments:
        print(render(Path(arguments[0])), end="")
        return 0
    for values in sorted(EXAMPLES.glob(f"*{VALUES}")):
        rendered(values).write_text(render(values))
    return 0


def rendered(values: Path) -> Path:
    """Return the file that keeps what an example's values give."""
    return values.with_name(values.name.removesuffix(VALUES) + ".yaml")


def render(values: Path) -> str:
    """Return the manifests for a release and a namespace of the chart's name. Raises `helm_python.HelmError`."""
    with helm.Chart.load(CHART) as chart:
        given = helm.values_from_yaml(values.read_text())
        chart.validate_schema(given)
        found = chart.render(given, name=NAME, namespace=NAME)
    parts = [found[name].strip().removeprefix("---").strip() for name in sorted(found) if name.endswith(".yaml")]
    return "".join(f"---\n{part}\n" for part in parts if part)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
