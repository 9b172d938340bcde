"""What a pod of the chart sees: the environment and the home that its Secrets and its ConfigMap give it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import yaml

from tests.support.paths import ROOT

EXAMPLE = ROOT / "deploy/kubernetes/examples/one-node.yaml"
HOME = Path("/var/lib/aidevos")
Manifest = dict[str, Any]


def pod_of(component: str) -> Manifest:
    """Return the pod of a service or a step, as the chart describes it."""
    for manifest in yaml.safe_load_all(EXAMPLE.read_text()):
        template = manifest["spec"].get("template")
        if template is not None and template["metadata"]["labels"]["app.kubernetes.io/component"] == component:
            found: Manifest = template["spec"]
            return found
    raise LookupError(component)


def environment_of(pod: Manifest, made: list[Manifest]) -> dict[str, str]:
    """Return the variables that the pod takes from Secrets."""
    (container,) = pod["containers"]
    names = [each["secretRef"]["name"] for each in container["envFrom"]]
    return {key: value.decode() for name in names for key, value in data_of(made, name).items()}


def mount(pod: Manifest, made: list[Manifest], home: Path) -> Path:
    """Write what the pod has mounted in its home, and return the home."""
    (container,) = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for each in container["volumeMounts"]:
        volume, place = volumes[each["name"]], Path(each["mountPath"])
        if not place.is_relative_to(HOME):
            continue
        folder = home / place.relative_to(HOME)
        folder.mkdir(parents=True, exist_ok=True)
        name = volume.get("secret", {}).get("secretName") or volume.get("configMap", {}).get("name")
        for key, value in (data_of(made, name) if name else {}).items():
            (folder / key).write_bytes(value)
    return home


def data_of(made: list[Manifest], name: str) -> dict[str, bytes]:
    """Return the contents of a Secret or a ConfigMap."""
    (found,) = (manifest for manifest in made if manifest["metadata"]["name"] == name)
    if found["kind"] == "Secret":
        return {key: base64.b64decode(value) for key, value in found["data"].items()}
    return {key: value.encode() for key, value in found["data"].items()}
