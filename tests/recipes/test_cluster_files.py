"""recipes/k8s and the Dockerfile: what Kubernetes and hadolint say of them, and that names in them are names elsewhere.

No daemon runs where the tests run, so no image is built here: what the Dockerfile copies and runs is done in a clean folder in its place.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from overtake import settings

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "recipes/k8s").glob("*.yaml"))
DOCUMENTS = [document for file in FILES for document in yaml.safe_load_all(file.read_text("utf-8"))]
PROGRAMS = Path(sys.executable).parent


def of_kind(*kinds: str) -> list[dict[str, Any]]:
    return [document for document in DOCUMENTS if document["kind"] in kinds]


PODS = {document["metadata"]["name"]: document["spec"]["template"]["spec"] for document in of_kind("Deployment", "StatefulSet", "Job")}
SERVICES = {document["metadata"]["name"]: document["spec"] for document in of_kind("Service")}


def checked(*command: object) -> None:
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_kubernetes_takes_every_resource() -> None:
    checked(PROGRAMS / "kubernetes-validate", "--strict", *FILES)
    kinds = sorted({document["kind"] for document in DOCUMENTS})
    assert kinds == ["ConfigMap", "Deployment", "Job", "PersistentVolumeClaim", "Service", "StatefulSet"]


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    checked(PROGRAMS / "hadolint", ROOT / "Dockerfile")


def test_each_address_is_a_service_that_leads_to_a_pod_on_its_port() -> None:
    ports: dict[str, set[int]] = {}
    for name, pod in PODS.items():
        ports[name] = {port["containerPort"] for container in pod["containers"] for port in container.get("ports", [])}
    for name, service in SERVICES.items():
        assert set(service["selector"].values()) == {name}, "service and pods are of one name"
        wanted = {port["port"] for port in service["ports"]}
        assert wanted <= ports[name] | ({29500} if name == "overtake-training" else set())
    (config,) = of_kind("ConfigMap")
    addresses = [value for name, value in config["data"].items() if value.startswith("http")]
    assert len(addresses) == 2
    for address in addresses:
        host, port = re.fullmatch(r"http://([\w-]+):(\d+)(?:/v1)?", address).groups()  # type: ignore[union-attr]
        assert int(port) in ports[host]


def test_the_indexed_job_says_to_each_machine_which_it_is() -> None:
    (job,) = of_kind("Job")
    spec, (container,) = job["spec"], PODS["overtake-training"]["containers"]
    env = {variable["name"]: variable["value"] for variable in container["env"]}
    assert spec["completionMode"] == "Indexed" and spec["completions"] == spec["parallelism"] == int(env["NNODES"])
    assert "NODE_RANK=$JOB_COMPLETION_INDEX" in container["command"][-1] and env["RESUME"] == "1"
    name = job["metadata"]["name"]
    assert env["MASTER_ADDR"] == f"{name}-0.{PODS[name]['subdomain']}", "as Kubernetes names the first pod of an Indexed Job"
    assert SERVICES[PODS[name]["subdomain"]]["clusterIP"] == "None" and SERVICES[name]["publishNotReadyAddresses"]
    (rollout,) = of_kind("StatefulSet")
    hosts = [f"{rollout['metadata']['name']}-{number}.{rollout['spec']['serviceName']}" for number in range(rollout["spec"]["replicas"])]
    assert env["ROLLOUT_HOST"].split() == hosts


def test_every_name_in_them_is_a_setting_or_a_recipes_variable() -> None:
    known = {f"OVERTAKE_{name.upper()}" for name in settings.model().model_fields}
    documented = set(re.findall(r"`([A-Z_]+)(?:=1)?`", (ROOT / "docs/profiles.md").read_text("utf-8"))) | {"HF_HOME"}
    names = {variable["name"] for pod in PODS.values() for container in pod["containers"] for variable in container.get("env", [])}
    (config,) = of_kind("ConfigMap")
    names |= set(config["data"])
    assert names <= known | documented, names - known - documented
    recipes = {word for pod in PODS.values() for word in re.findall(r"recipes/[\w.]+", " ".join(pod["containers"][0]["command"]))}
    assert len(recipes) == 4 and all((ROOT / recipe).is_file() for recipe in recipes)


def test_keys_stand_in_no_file_and_nobody_is_root() -> None:
    text = "".join(file.read_text("utf-8") for file in FILES)
    assert not re.search(r"(KEY|TOKEN|PASSWORD|STORE)\w*: +[^,}\n]*\w", text), "keys come by secretRef and secretKeyRef"
    (config,) = of_kind("ConfigMap")
    secrets = {f"OVERTAKE_{name.upper()}" for name, field in settings.model().model_fields.items() if "SecretStr" in str(field.annotation)}
    assert not secrets & set(config["data"])
    for pod in PODS.values():
        # Kubernetes would else add OVERTAKE_RAG_PORT and the like for each Service, which are no settings and are refused.
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] and all(
            not c["securityContext"]["allowPrivilegeEscalation"] for c in pod["containers"]
        )
    assert re.findall(r"^USER (\S+)", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE) == ["1000"]


# ---------------------------------------------------------------- what the Dockerfile does, without a daemon


def copied(folder: Path, *words: str) -> None:
    """What COPY would put there: of the project's files those that .dockerignore does not name."""
    ignored = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line and not line.startswith("#")]
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")[:-1]
    for file in files:
        parts = Path(file).parts
        if any(fnmatch(part, pattern.removeprefix("**/")) for part in parts for pattern in ignored) or not (ROOT / file).is_file():
            continue
        if words == (".",) or any(fnmatch(file, word) or parts[0] == word for word in words):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, folder / file)


def steps() -> list[list[str]]:
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    return [shlex.split(line) for line in text.splitlines() if line.strip()]


def test_the_packages_are_decided_before_the_rest_is_copied_and_all_of_the_project_is(tmp_path: Path) -> None:
    copies = [[word for word in words if not word.startswith("--")][1:] for words in steps() if words[0] == "COPY"]
    copied(tmp_path / "first", *copies[0][:-1], *copies[1][:-1])
    for name in ("install.sh", "pyproject.toml", "requirements.txt", "requirements-cpu.txt", "requirements-dev.txt", "plugin/register.py"):
        assert (tmp_path / "first" / name).is_file(), "install.sh reads it"
    copied(tmp_path / "all", *copies[2][:-1])
    assert (tmp_path / "all/recipes/quickstart.sh").is_file() and not (tmp_path / "all/.git").exists()


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize("stack", ["cpu"])
def test_its_steps_install_the_project_in_a_clean_folder(tmp_path: Path, stack: str) -> None:
    """Five minutes and 4 GB: all but the packages of Debian and the user, which only an image needs."""
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path), "STACK": stack}
    env |= {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name == "PYTHON"}
    folder = tmp_path / "overtake"
    folder.mkdir()
    for kind, *words in steps():
        if kind == "COPY":
            copied(folder, *[word for word in words if not word.startswith("--")][:-1])
        elif kind == "RUN" and "apt-get" not in words:
            line = shlex.join(words).replace("'OVERTAKE_STACK=$STACK'", "OVERTAKE_STACK=$STACK")
            subprocess.run(["bash", "-c", line], cwd=folder, env=env, check=True)
    done = subprocess.run(
        ["bash", "recipes/sft_qwen32b.sh"],
        cwd=folder,
        env=env | {"DRY_RUN": "1", "PROFILE": "cpu", "PATH": f"{folder}/.venv/bin:{env['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "swift sft" in done.stdout.replace("\\\n", " ")
