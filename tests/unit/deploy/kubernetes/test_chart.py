"""The Helm chart: its examples are what Helm makes of it, valid for Kubernetes, and closed pods that drain in time."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Any

import kubernetes_validate
import msgspec
import pytest
import yaml

from aidevos.settings import PREFIX, Settings, load
from deploy.local.programs import SERVICES
from tests.support.paths import ROOT

EXAMPLES = ROOT / "deploy/kubernetes/examples"
NAMES = ("one-node", "twenty-nodes")
# The oldest version that the chart accepts, and the newest one whose schemas are known here.
VERSIONS = ("1.27", "1.37")
Manifest = dict[str, Any]
START_WITHIN = 30.0
FILES = ROOT / "deploy/observability"


def render(values: Path) -> subprocess.CompletedProcess[str]:
    """Let Helm render the chart, in a process of its own."""
    command = [sys.executable, "-m", "tools.chart", str(values)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def render_text(folder: Path, values: str) -> list[Manifest]:
    (folder / "values.yaml").write_text(values)
    done = render(folder / "values.yaml")
    assert done.returncode == 0, done.stderr
    return parse(done.stdout)


def parse(text: str) -> list[Manifest]:
    return list(yaml.load_all(text, yaml.CSafeLoader))


@cache
def example(name: str) -> list[Manifest]:
    return parse((EXAMPLES / f"{name}.yaml").read_text())


@pytest.fixture(params=NAMES)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return deepcopy(example(request.param))


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def deployments(manifests: list[Manifest]) -> dict[str, Manifest]:
    return {found["metadata"]["name"]: found["spec"]["template"]["spec"] for found in of_kind(manifests, "Deployment")}


def pods(manifests: list[Manifest]) -> Iterator[Manifest]:
    for manifest in (*of_kind(manifests, "Deployment"), *of_kind(manifests, "Job")):
        yield manifest["spec"]["template"]["spec"]


def container(pod: Manifest) -> Manifest:
    (only,) = pod["containers"]
    found: Manifest = only
    return found


def environment(pod: Manifest) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in container(pod)["env"]}


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_what_helm_renders(name: str) -> None:
    done = render(EXAMPLES / f"{name}.values.yaml")

    assert done.returncode == 0, done.stderr
    assert (EXAMPLES / f"{name}.yaml").read_text() == done.stdout, "run `python -m tools.chart`"


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_accepts_every_manifest(manifests: list[Manifest], version: str) -> None:
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_a_manifest_with_a_mistake_is_not_accepted(manifests: list[Manifest]) -> None:
    (job,) = of_kind(manifests, "Job")
    job["spec"]["template"]["spec"]["terminationGraceSeconds"] = 5

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, VERSIONS[-1], strict=True)


def test_each_service_is_a_deployment_of_which_one_pod_at_a_time_may_be_evicted(manifests: list[Manifest]) -> None:
    names = {f"aidevos-{service.name.replace('_', '-')}" for service in SERVICES}
    budgets = {found["metadata"]["name"]: found["spec"] for found in of_kind(manifests, "PodDisruptionBudget")}

    assert deployments(manifests).keys() == budgets.keys() == names
    for found in of_kind(manifests, "Deployment"):
        assert budgets[found["metadata"]["name"]] == {"maxUnavailable": 1, "selector": found["spec"]["selector"]}
        assert found["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_a_service_runs_its_own_program_with_its_own_secrets_alone(manifests: list[Manifest]) -> None:
    found = deployments(manifests)
    for service in SERVICES:
        name = f"aidevos-{service.name.replace('_', '-')}"
        pod = found[name]
        secrets = {each["secretRef"]["name"] for each in container(pod)["envFrom"]}
        secrets |= {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}

        assert container(pod)["command"] == ["python", "-m", f"aidevos.services.{service.name}"]
        assert secrets - {"aidevos-ca"} == {f"{name}-env", f"{name}-keys"}


def test_a_pod_can_do_no_more_than_it_must(manifests: list[Manifest]) -> None:
    for pod in pods(manifests):
        assert pod["automountServiceAccountToken"] is False
        # Else the Service `aidevos` would set AIDEVOS_PORT.
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert container(pod)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container(pod)["resources"].keys() == {"requests", "limits"}
        assert "cpu" not in container(pod)["resources"]["limits"]
        for mount in container(pod)["volumeMounts"]:
            if mount["name"] in ("keys", "public", "tls"):
                assert mount["readOnly"] is True


def test_the_user_of_a_pod_is_the_one_of_the_image(manifests: list[Manifest]) -> None:
    (uid,) = re.findall(r"--uid (\d+)", (ROOT / "deploy/docker/Dockerfile").read_text())
    for pod in pods(manifests):
        assert {pod["securityContext"][name] for name in ("runAsUser", "runAsGroup", "fsGroup")} == {int(uid)}


def test_a_pod_has_time_to_drain_and_the_gateway_to_be_forgotten_before(manifests: list[Manifest]) -> None:
    for name, pod in deployments(manifests).items():
        assert grace(pod) >= float(environment(pod)["AIDEVOS_DRAIN_TIMEOUT"]) + 10
        assert ("lifecycle" in container(pod)) == (name == "aidevos-http-gateway")


def test_the_grace_period_follows_the_drain_timeout(tmp_path: Path) -> None:
    rendered = render_text(tmp_path, "publicUrl: https://a.example\ndrainTimeoutSeconds: 120\n")

    for pod in deployments(rendered).values():
        assert environment(pod)["AIDEVOS_DRAIN_TIMEOUT"] == "120"
        assert grace(pod) >= 130


def grace(pod: Manifest) -> float:
    """Return the seconds between SIGTERM and the end."""
    hook = container(pod).get("lifecycle", {}).get("preStop", {"exec": {"command": ["sleep", "0"]}})
    return float(pod["terminationGracePeriodSeconds"]) - float(hook["exec"]["command"][1])


def test_a_process_is_given_time_to_start_and_to_end_by_itself_when_it_hangs(manifests: list[Manifest]) -> None:
    for pod in deployments(manifests).values():
        own = container(pod)
        ports = {port["name"]: port["containerPort"] for port in own["ports"]}
        probes = {kind: own[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")}

        assert {probe["httpGet"]["port"] for probe in probes.values()} == {"probes"}
        assert environment(pod)["AIDEVOS_PROBE_PORT"] == str(ports["probes"])
        assert {kind: probe["httpGet"]["path"] for kind, probe in probes.items()} == {
            "startup": "/health/ready",
            "readiness": "/health/ready",
            "liveness": "/health/live",
        }
        assert probes["startup"]["periodSeconds"] * probes["startup"]["failureThreshold"] > START_WITHIN
        assert probes["liveness"]["periodSeconds"] * probes["liveness"]["failureThreshold"] > load({}).stall_limit


def test_a_host_has_the_name_of_its_pod(manifests: list[Manifest]) -> None:
    for pod in deployments(manifests).values():
        (name,) = (each for each in container(pod)["env"] if each["name"] == "AIDEVOS_HOST_NAME")
        assert name["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}


def test_every_variable_is_a_setting_and_has_a_value_that_it_takes(manifests: list[Manifest]) -> None:
    known = {PREFIX + field.name.upper() for field in msgspec.structs.fields(Settings)}
    for pod in pods(manifests):
        assert environment(pod).keys() <= known
        load(environment(pod) | {"AIDEVOS_TLS_REQUIRED": "false"})


def test_the_gateway_reports_the_health_of_the_services_that_run(tmp_path: Path) -> None:
    rendered = render_text(tmp_path, "publicUrl: https://a.example\nservices: {task_worker: {enabled: false}}\n")

    pod = deployments(rendered)["aidevos-http-gateway"]
    assert "aidevos-task-worker" not in deployments(rendered)
    assert set(environment(pod)["AIDEVOS_SERVICES"].split(",")) == {
        service.name for service in SERVICES if service.name not in ("http_gateway", "task_worker")
    }


def test_your_own_types_run_beside_the_objects_service_with_its_secrets(tmp_path: Path) -> None:
    shop = "{image: shop:1, command: [python, -m, shop], secretsOf: objects}"

    found = deployments(render_text(tmp_path, f"publicUrl: https://a.example\nservices: {{shop: {shop}}}\n"))

    assert found["aidevos-shop"]["containers"][0]["image"] == "shop:1"
    assert container(found["aidevos-shop"])["envFrom"] == container(found["aidevos-objects"])["envFrom"]
    assert found["aidevos-shop"]["volumes"] == found["aidevos-objects"]["volumes"]
    assert "shop" not in environment(found["aidevos-http-gateway"])["AIDEVOS_SERVICES"]


def test_requests_reach_the_gateway_and_nothing_else(manifests: list[Manifest]) -> None:
    (service,), (ingress,) = of_kind(manifests, "Service"), of_kind(manifests, "Ingress")
    policies = {found["metadata"]["name"]: found["spec"] for found in of_kind(manifests, "NetworkPolicy")}
    gateway = next(
        found for found in of_kind(manifests, "Deployment") if found["metadata"]["name"] == "aidevos-http-gateway"
    )
    labels = gateway["spec"]["template"]["metadata"]["labels"]

    assert service["spec"]["selector"].items() <= labels.items()
    assert ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"] == service["metadata"]["name"]
    assert policies["aidevos-closed"]["podSelector"]["matchLabels"].items() <= labels.items()
    for rule in policies["aidevos-closed"].get("ingress", ()):
        assert rule["from"]
        assert rule["ports"] == [{"protocol": "TCP", "port": "metrics"}]
    assert policies["aidevos-gateway"]["ingress"] == [{"ports": [{"protocol": "TCP", "port": "http"}]}]


MONITORED = """
publicUrl: https://a.example
otlpEndpoint: http://jaeger:4318
monitoring:
  podMonitor: {enabled: true, labels: {release: prometheus}}
  rules: {enabled: true, runbooks: "https://git.example/"}
  dashboards: {enabled: true}
"""


@pytest.fixture(scope="module")
def monitored(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    return render_text(tmp_path_factory.mktemp("monitored"), MONITORED)


def test_nothing_is_monitored_unless_it_is_enabled(manifests: list[Manifest]) -> None:
    assert not {"PodMonitor", "PrometheusRule"} & {manifest["kind"] for manifest in manifests}
    assert not of_kind(manifests, "ConfigMap")
    for pod in deployments(manifests).values():
        assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in environment(pod)


def test_prometheus_finds_the_metrics_of_every_service_and_each_fleet_is_a_job(monitored: list[Manifest]) -> None:
    (monitor,) = of_kind(monitored, "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    (job,) = (each["replacement"] for each in endpoint["relabelings"] if each["targetLabel"] == "job")

    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert job == "aidevos/aidevos/aidevos"
    assert endpoint["honorLabels"] is True
    for found in of_kind(monitored, "Deployment"):
        labels, pod = found["spec"]["template"]["metadata"]["labels"], found["spec"]["template"]["spec"]
        assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
        ports = {port["name"]: port["containerPort"] for port in container(pod)["ports"]}
        assert environment(pod)["AIDEVOS_METRICS_PORT"] == str(ports[endpoint["port"]])
        assert environment(pod)["AIDEVOS_METRICS_HOST"] == "0.0.0.0"
        assert environment(pod)["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://jaeger:4318"


def test_the_rules_are_those_of_every_fleet_with_links_to_their_pages(monitored: list[Manifest]) -> None:
    (made,) = of_kind(monitored, "PrometheusRule")
    groups = [group for file in FILES.glob("rules/*.yml") for group in yaml.safe_load(file.read_text())["groups"]]
    for group in groups:
        for rule in group["rules"]:
            if "annotations" in rule:
                rule["annotations"]["runbook_url"] = "https://git.example/" + rule["annotations"]["runbook_url"]

    assert sorted(made["spec"]["groups"], key=itemgetter("name")) == sorted(groups, key=itemgetter("name"))


def test_grafana_gets_the_dashboards_of_every_fleet(monitored: list[Manifest]) -> None:
    made = of_kind(monitored, "ConfigMap")
    files = {file.name: file.read_text() for file in FILES.glob("grafana/dashboards/*.json")}

    for each in made:
        kubernetes_validate.validate(each, VERSIONS[-1], strict=True)
        assert each["metadata"]["labels"]["grafana_dashboard"] == "1"
    found = {name: json.loads(text) for each in made for name, text in each["data"].items()}
    assert found == {name: json.loads(text) for name, text in files.items()}


def test_the_chart_has_no_copy_of_the_rules_and_the_dashboards() -> None:
    for name, target in (("rules", "rules"), ("dashboards", "grafana/dashboards")):
        link = ROOT / "deploy/kubernetes/chart" / name
        assert link.is_symlink()
        assert link.resolve() == FILES / target


def test_hosts_are_spread_and_grow_with_their_load() -> None:
    large = example("twenty-nodes")
    scalers = {
        found["spec"]["scaleTargetRef"]["name"]: found["spec"] for found in of_kind(large, "HorizontalPodAutoscaler")
    }

    assert scalers.keys() == deployments(large).keys()
    for found in of_kind(large, "Deployment"):
        # The autoscaler decides, also after an upgrade.
        assert "replicas" not in found["spec"]
        nodes, zones = found["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert (nodes["topologyKey"], nodes["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "DoNotSchedule")
        assert zones["whenUnsatisfiable"] == "ScheduleAnyway"
        assert nodes["labelSelector"]["matchLabels"] == found["spec"]["selector"]["matchLabels"]


def test_the_servers_are_prepared_before_the_services_of_a_version_start(manifests: list[Manifest]) -> None:
    (job,) = of_kind(manifests, "Job")

    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert container(job["spec"]["template"]["spec"])["command"][2:] == ["aidevos.deploy.kubernetes", "provision"]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ("replicas: 3", "publicUrl is required|replicas"),
        ("env: {}", "publicUrl is required"),
        ("publicUrl: https://a.example\nreplicaz: 3", "replicaz"),
        ("publicUrl: https://a.example\nservices: {objects: {replica: 3}}", "replica"),
        ("publicUrl: https://a.example\ningress: {enabled: true}", "ingress.host is required"),
    ],
)
def test_values_that_make_no_fleet_are_refused(tmp_path: Path, values: str, problem: str) -> None:
    (tmp_path / "values.yaml").write_text(values)

    done = render(tmp_path / "values.yaml")

    assert done.returncode != 0
    assert re.search(problem, done.stderr)
