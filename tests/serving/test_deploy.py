"""The files of serving/deploy/, linted and held to what the command really does."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.main import get_command
from yamllint import linter
from yamllint.config import YamlLintConfig

from serving import settings
from serving.cli import app
from serving.outcome import EXIT, TERMINATED

DEPLOY = Path(__file__).parents[2] / "serving" / "deploy"
KUBERNETES, SYSTEMD = DEPLOY / "kubernetes", DEPLOY / "systemd"
MANIFESTS = sorted(KUBERNETES.glob("*.yaml"))
UNITS = sorted(SYSTEMD.iterdir())
VERSION = "1.37"
STYLE = YamlLintConfig(
    "{extends: default, rules: {document-start: disable, line-length: {max: 120}}}"
)
NOTHING_WRONG = {code for outcome, code in EXIT.items() if code and outcome != "diverged"}


def name_of(path: Path) -> str:
    return path.name


def documents() -> list[dict[str, Any]]:
    return [document for path in MANIFESTS for document in yaml.safe_load_all(path.read_text())]


def the(kind: str, name: str = "scarwise") -> dict[str, Any]:
    [found] = [d for d in documents() if d["kind"] == kind and d["metadata"]["name"] == name]
    return found


def pods() -> dict[str, dict[str, Any]]:
    """The specification of every pod, by what makes it."""
    job = the("CronJob", "scarwise-retrain")["spec"]["jobTemplate"]
    makers = {"retrain": job, "serve": the("Deployment"), "token": the("Job", "first-token")}
    return {name: maker["spec"]["template"]["spec"] for name, maker in makers.items()}


def unit(name: str) -> dict[str, list[str]]:
    """Every key of a unit with its values, in order."""
    told: dict[str, list[str]] = {}
    for line in (SYSTEMD / name).read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            key, _, value = line.partition("=")
            told.setdefault(key, []).append(value)
    return told


def is_a_command(words: list[str]) -> bool:
    """Whether `scarwise` knows these words, options too."""
    command: Any = get_command(app)
    context = command.make_context("scarwise", [], resilient_parsing=True)
    while words and (found := getattr(command, "get_command", lambda *_: None)(context, words[0])):
        command, words = found, words[1:]
    options = {o for parameter in command.params for o in parameter.opts}
    return all(not word.startswith("-") or word in options for word in words)


@pytest.mark.parametrize("path", [*MANIFESTS, *UNITS, DEPLOY / "crontab"], ids=name_of)
def test_a_file_begins_with_the_one_line_that_says_what_it_is_for(path):
    first, second, *_ = path.read_text().splitlines()

    assert first.startswith("# ")
    assert not second.startswith("#")


@pytest.mark.parametrize("path", MANIFESTS, ids=name_of)
def test_a_manifest_is_clean_yaml(path):
    assert [str(p) for p in linter.run(path.read_text(), STYLE)] == []


@pytest.mark.parametrize("path", MANIFESTS, ids=name_of)
def test_a_manifest_is_what_kubernetes_expects(path):
    for document in yaml.safe_load_all(path.read_text()):
        if document["kind"] != "Kustomization":  # kubectl knows it, the server does not
            kubernetes_validate.validate(document, VERSION, strict=True)


def test_the_kustomization_names_every_manifest_but_the_one_that_is_applied_once():
    [told] = [d for d in documents() if d["kind"] == "Kustomization"]

    assert {*told["resources"], "kustomization.yaml", "first-token.yaml"} == {
        path.name for path in MANIFESTS
    }


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
def test_kubectl_puts_the_manifests_together():
    done = subprocess.run(
        ["kubectl", "kustomize", KUBERNETES], capture_output=True, text=True, check=True
    )

    kinds = sorted(d["kind"] for d in yaml.safe_load_all(done.stdout))
    assert kinds == ["ConfigMap", "CronJob", "Deployment", "PersistentVolumeClaim", "Service"]
    assert "image: scarwise:0.1.0" in done.stdout


@pytest.mark.parametrize("name", ["retrain", "serve", "token"])
def test_a_pod_has_no_more_rights_than_it_needs(name):
    pod = pods()[name]
    [container] = pod["containers"]

    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in container["resources"]["limits"]
    assert pod["volumes"][0] == {
        "name": "data",
        "persistentVolumeClaim": {"claimName": the("PersistentVolumeClaim")["metadata"]["name"]},
    }
    assert [s["secretRef"]["optional"] for s in container["envFrom"] if "secretRef" in s] == [True]


def test_the_settings_of_the_cluster_are_settings_of_ours():
    found = settings.load(the("ConfigMap")["data"])

    [container] = pods()["serve"]["containers"]
    assert str(found.home) == container["volumeMounts"][0]["mountPath"]
    assert found.serve.port == container["ports"][0]["containerPort"]
    assert found.training.auto_promote is False


def test_two_turns_never_run_at_once_and_one_that_was_cut_off_is_gone_on_with():
    job = the("CronJob", "scarwise-retrain")["spec"]

    assert job["concurrencyPolicy"] == "Forbid"
    assert pods()["retrain"]["restartPolicy"] == "Never"
    assert job["jobTemplate"]["spec"]["backoffLimit"] > 0


@pytest.mark.parametrize("code", range(20))
def test_the_job_fails_only_when_something_is_wrong(code, tmp_path):
    [container] = pods()["retrain"]["containers"]
    fake = tmp_path / "scarwise"
    fake.write_text(f'#!/bin/sh\n[ "$*" = "retrain --if-due" ] && exit {code}\nexit 99\n')
    fake.chmod(0o755)

    done = subprocess.run(
        [*container["command"], *container["args"]],
        env={"PATH": f"{tmp_path}:/bin:/usr/bin"},
        capture_output=True,
        check=False,
    )

    assert done.returncode == (0 if code in NOTHING_WRONG else code)


def test_no_rule_of_the_job_would_start_a_turn_again_for_how_it_ended():
    rules = the("CronJob", "scarwise-retrain")["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]
    by_code = [rule for rule in rules["rules"] if "onExitCodes" in rule]

    assert {rule["action"] for rule in by_code} == {"FailJob"}
    assert {code for rule in by_code for code in rule["onExitCodes"]["values"]} == {
        2,
        EXIT["diverged"],
    }


def test_systemd_counts_as_success_what_is_one():
    [codes] = unit("scarwise-retrain.service")["SuccessExitStatus"]

    assert {int(code) for code in codes.split()} == NOTHING_WRONG | {TERMINATED}


def test_the_timer_starts_the_unit_of_its_name_and_makes_up_for_what_it_missed():
    told = unit("scarwise-retrain.timer")

    assert told["Persistent"] == ["true"]
    assert "Unit" not in told
    assert (SYSTEMD / "scarwise-retrain.service").is_file()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path):
    for path in UNITS:  # what is started has to be there
        told = path.read_text().replace("/opt/scarwise/.venv/bin/scarwise", sys.executable)
        (tmp_path / path.name).write_text(told)

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *sorted(tmp_path.iterdir())],
        capture_output=True,
        text=True,
        check=False,
    )

    ours = [line for line in done.stderr.splitlines() if "scarwise" in line]
    assert (done.returncode, ours) == (0, [])


@pytest.mark.parametrize("name", ["scarwise.service", "scarwise-retrain.service"])
def test_a_unit_is_hardened_and_has_a_limit(name):
    told = unit(name)

    assert told["ProtectSystem"] == ["strict"]
    assert told["NoNewPrivileges"] == ["yes"]
    assert told["CapabilityBoundingSet"] == [""]
    assert "MemoryMax" in told
    # All that is written lies in the data folder, which the unit makes.
    assert told["Environment"] == [f"SCARWISE_HOME=/var/lib/{told['StateDirectory'][0]}"]


def test_cron_asks_every_six_hours():
    lines = (DEPLOY / "crontab").read_text().splitlines()
    minute, hour, *rest, user, command = lines[-1].split(maxsplit=6)

    assert (minute.isdigit(), hour, rest, user) == (True, "*/6", ["*"] * 3, "scarwise")
    assert "/scarwise retrain --if-due" in command


def test_every_command_that_is_started_is_one_that_we_have():
    started = [unit(path.name)["ExecStart"][0] for path in UNITS if path.suffix == ".service"]
    started += [line for line in (DEPLOY / "crontab").read_text().splitlines() if "retrain" in line]
    words = [line.partition("bin/scarwise ")[2].partition(" 2>")[0].split() for line in started]
    words += [pods()[name]["containers"][0]["args"] for name in ("serve", "token")]

    assert [w for w in words if not w or not is_a_command(w)] == []
    assert not is_a_command(["retrain", "--if-dew"])


def test_the_dockerfile_is_clean():
    done = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), DEPLOY / "Dockerfile"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_is_built_from_what_it_copies_and_sees_nothing_else():
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    ignored = (DEPLOY.parents[1] / ".dockerignore").read_text().splitlines()

    copies = [line.split() for line in lines if line.startswith("COPY ") and "--" not in line]
    copied = {word for _, *sources, _ in copies for word in sources}
    assert {line[1:] for line in ignored if line.startswith("!")} == copied
    assert "*" in ignored


def test_the_image_holds_every_room_and_runs_as_nobody_in_particular():
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    root = DEPLOY.parents[1]

    copied = {line.split()[1] for line in lines if line.startswith("COPY ") and "--" not in line}
    rooms = {path.parent.name for path in root.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert rooms | {"pyproject.toml"} <= copied
    assert f"USER {pods()['serve']['securityContext']['runAsUser']}" in lines
