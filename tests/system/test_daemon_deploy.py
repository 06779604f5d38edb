"""What deploy/ holds for monitoring, containers and Kubernetes: it can be parsed, fits the program, and is hardened."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from syncd.config.load import load
from syncd.config.model import Settings
from syncd.config.service_settings import DaemonSettings
from syncd.obs.metrics import Metrics
from syncd.status.health import Health

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus/syncd.rules.yml"
DASHBOARD = DEPLOY / "grafana/syncd.json"
STOPPING = DaemonSettings().shutdown_timeout_seconds


def _documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text()))


def _kubernetes(name: str) -> Any:
    (found,) = _documents(DEPLOY / f"kubernetes/{name}.yaml")
    return found


def _known_metrics() -> set[str]:
    known = {"up"}
    for family in Metrics().registry.collect():
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "info": ["_info"]}
        known |= {family.name + suffix for suffix in suffixes.get(family.type, [""])}
    return known


def _queries() -> Iterator[str]:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel["targets"])


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.y*ml")), ids=lambda path: path.name)
def test_given_a_yaml_file_then_it_can_be_read(path: Path) -> None:
    assert all(isinstance(document, dict) for document in _documents(path))


def test_given_an_upgrade_in_kubernetes_then_the_old_version_stops_before_the_new_one_begins_as_the_page_says() -> None:
    page = (DEPLOY.parent / "docs/how-to/upgrade.md").read_text()

    assert _kubernetes("deployment")["spec"]["strategy"] == {"type": "Recreate"}
    assert "stop all of them, upgrade, and start them again" in page
    assert "`Recreate`" in page


class TestMonitoring:
    def test_given_a_query_then_it_asks_only_for_metrics_the_daemon_shows(self) -> None:
        known = _known_metrics()
        asked = {name for query in _queries() for name in re.findall(r"\b((?:syncd|process)_[a-z_]+)", query)}
        assert asked - known == set()
        assert len(asked) > 20

    def test_given_a_query_that_names_a_health_then_there_is_one(self) -> None:
        named = {health for query in _queries() for health in re.findall(r'health="([a-z-]+)"', query)}
        assert named <= {health.value for health in Health}

    def test_given_a_rule_then_it_says_how_grave_it_is_and_what_to_do(self) -> None:
        for group in yaml.safe_load(RULES.read_text())["groups"]:
            for rule in group["rules"]:
                assert rule["labels"]["severity"] in {"critical", "warning", "info"}, rule["alert"]
                assert set(rule["annotations"]) == {"summary", "description"}, rule["alert"]

    def test_given_a_rule_then_a_unit_test_makes_it_fire(self) -> None:
        rules = {rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
        tests = yaml.safe_load((DEPLOY / "prometheus/syncd.rules_test.yml").read_text())["tests"]
        fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]}
        assert fired == rules

    @pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (package prometheus) is not installed")
    def test_given_promtool_then_it_accepts_the_rules_and_their_unit_tests_pass(self) -> None:
        for command in (["check", "rules", RULES.name], ["test", "rules", "syncd.rules_test.yml"]):
            ran = subprocess.run(
                ["promtool", *command], cwd=RULES.parent, capture_output=True, text=True, check=False, timeout=60
            )
            assert ran.returncode == 0, ran.stdout + ran.stderr

    def test_given_the_dashboard_then_its_panels_have_places_of_their_own(self) -> None:
        taken: set[tuple[int, int]] = set()
        for panel in json.loads(DASHBOARD.read_text())["panels"]:
            place = panel["gridPos"]
            cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
            assert place["x"] + place["w"] <= 24
            assert not taken & cells, panel["title"]
            taken |= cells


class TestKubernetes:
    @pytest.mark.parametrize("name", ["deployment", "cronjob"])
    def test_given_a_pod_then_it_may_do_next_to_nothing(self, name: str) -> None:
        pod = _pod(_kubernetes(name))
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] >= 10000
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }

    @pytest.mark.parametrize("name", ["deployment", "cronjob"])
    def test_given_a_pod_when_it_is_to_end_then_there_is_time_for_the_batch_in_flight(self, name: str) -> None:
        assert _pod(_kubernetes(name))["terminationGracePeriodSeconds"] > STOPPING

    def test_given_the_daemon_then_its_life_hangs_on_livez_and_its_readiness_on_readyz(self) -> None:
        (container,) = _pod(_kubernetes("deployment"))["containers"]
        probes = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
        assert probes == {
            "startupProbe": {"path": "/livez", "port": "web"},
            "livenessProbe": {"path": "/livez", "port": "web"},
            "readinessProbe": {"path": "/readyz", "port": "web"},
        }

    def test_given_two_replicas_then_one_may_be_taken_away(self) -> None:
        assert _kubernetes("deployment")["spec"]["replicas"] == 2
        assert _kubernetes("disruption")["spec"]["minAvailable"] == 1

    def test_given_the_parts_then_they_name_each_other_rightly(self) -> None:
        deployment, service = _kubernetes("deployment"), _kubernetes("service")
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        for selector in (
            deployment["spec"]["selector"]["matchLabels"],
            service["spec"]["selector"],
            _kubernetes("disruption")["spec"]["selector"]["matchLabels"],
            _kubernetes("network")["spec"]["podSelector"]["matchLabels"],
        ):
            assert selector.items() <= labels.items()
        monitored = _kubernetes("servicemonitor")["spec"]["selector"]["matchLabels"]
        assert monitored.items() <= service["metadata"]["labels"].items()
        listed = set(_kubernetes("kustomization")["resources"]) - {"secret.yaml"}
        assert all((DEPLOY / "kubernetes" / name).exists() for name in listed)

    def test_given_the_configuration_and_the_secrets_then_syncd_accepts_them(self, tmp_path: Path) -> None:
        secrets = _kubernetes("secret.example")["stringData"]
        settings = _loaded(tmp_path, _kubernetes("configuration")["data"]["syncd.toml"], secrets)
        assert settings.web.address == ("0.0.0.0", 9464)
        assert settings.daemon.shutdown_timeout_seconds == STOPPING

    def test_given_the_cron_job_then_passes_do_not_overlap_and_what_needs_a_person_is_not_tried_again(self) -> None:
        job = _kubernetes("cronjob")["spec"]
        assert job["concurrencyPolicy"] == "Forbid"
        codes = [rule["onExitCodes"]["values"] for rule in job["jobTemplate"]["spec"]["podFailurePolicy"]["rules"][1:]]
        assert codes == [[3, 4, 64, 77, 78]]


class TestContainer:
    @pytest.fixture
    def containerfile(self) -> str:
        return (DEPLOY / "container/Containerfile").read_text()

    def test_given_the_image_then_it_is_built_in_two_stages_and_runs_as_nobody_in_particular(
        self, containerfile: str
    ) -> None:
        stages = re.findall(r"^FROM \S+(?: AS (\w+))?$", containerfile, re.MULTILINE)
        assert stages == ["build", ""]
        final = containerfile.rpartition("\nFROM ")[2]
        assert "USER 10001:10001" in final
        assert "pip install" not in final

    def test_given_the_image_then_the_program_itself_gets_the_signal(self, containerfile: str) -> None:
        assert 'ENTRYPOINT ["/opt/syncd/bin/syncd"]' in containerfile
        assert 'CMD ["run"]' in containerfile
        assert "STOPSIGNAL SIGTERM" in containerfile

    def test_given_what_the_image_is_built_from_then_it_is_there_and_hashed(self, containerfile: str) -> None:
        copied = [
            word
            for line in re.findall(r"^COPY (?!--from)(.+) \S+$", containerfile, re.MULTILINE)
            for word in line.split()
        ]
        assert all((DEPLOY.parent / name).exists() for name in copied), copied
        assert "--require-hashes" in containerfile

    def test_given_the_composition_then_every_syncd_is_confined_and_has_time_to_stop(self) -> None:
        composed = yaml.safe_load((DEPLOY / "container/compose.yml").read_text())
        for name in ("portal", "syncd", "standby"):
            service = composed["services"][name]
            assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name
            assert int(service["stop_grace_period"].rstrip("s")) > STOPPING
            assert service["stop_signal"] == "SIGTERM"

    def test_given_the_composition_then_syncd_accepts_its_configuration_and_secrets(self, tmp_path: Path) -> None:
        composed = yaml.safe_load((DEPLOY / "container/compose.yml").read_text())
        files = {name: DEPLOY / "container" / secret["file"] for name, secret in composed["secrets"].items()}
        for name in ("syncd", "standby"):
            given = {one["target"]: files[one["source"]].read_text() for one in composed["services"][name]["secrets"]}
            settings = _loaded(tmp_path, (DEPLOY / "container/syncd.toml").read_text(), given)
            assert settings.links["shop"].portal.address == "127.0.0.1:8080"

    def test_given_the_composition_then_nothing_is_published_beyond_this_machine(self) -> None:
        composed = yaml.safe_load((DEPLOY / "container/compose.yml").read_text())
        ports = [port for service in composed["services"].values() for port in service.get("ports", [])]
        assert ports == ["127.0.0.1:9464:9464"]


def _pod(resource: Any) -> Any:
    spec = resource["spec"].get("jobTemplate", resource)["spec"]
    return spec["template"]["spec"]


def _loaded(tmp_path: Path, config: str, secrets: dict[str, str]) -> Settings:
    directory = tmp_path / "secrets"
    directory.mkdir(exist_ok=True)
    for name, secret in secrets.items():
        (directory / name).write_text(secret)
    file = tmp_path / "syncd.toml"
    file.write_text(config)
    return load(file, {"CREDENTIALS_DIRECTORY": str(directory)}).settings
