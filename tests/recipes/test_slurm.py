"""recipes/slurm.sbatch on a real Slurm: controller, daemons and munge of Debian, four nodes by name on this one machine, no root's files.

One start of the cluster for all. Run: python -m pytest -m slow tests/recipes/test_slurm.py
"""

import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from overtake.evaluation.curves import read_log

ROOT = Path(__file__).resolve().parents[2]
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
KillWait=3
SlurmUser=root
SlurmdUser=root
SlurmctldPort={port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdSpoolDir={folder}/spool-%n
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
{nodes}
PartitionName=all Nodes=ALL Default=YES State=UP
"""
# In the place of a recipe: what its rank was told; it trains until it is allowed to end.
TOLD = """
mkdir -p told
names="NNODES NODE_RANK MASTER_ADDR MASTER_PORT ROLLOUT_HOST PROFILE RESUME OVERTAKE_JUDGE_BASE_URL OVERTAKE_JUDGE_MODEL SLURMD_NODENAME"
for name in $names; do
  printf '%s=%s\\n' "$name" "${!name:-}"
done >"told/train-$NODE_RANK"
printf '%s\\n' "$@" >"told/words-$NODE_RANK"
until [[ -e told/end ]]; do sleep 0.2; done
"""
SERVES = """
mkdir -p told
printf 'HOST=%s ROLE=%s OPEN=%s NODE=%s' "$HOST" "${ROLE:-}" "${OPEN:-}" "$SLURMD_NODENAME" >"told/$(basename "$0")-$HOST"
mkdir -p served/v1 && : >served/v1/models
[[ -z ${ROLE:-} ]] || exec python3 -m http.server --directory served --bind "$HOST" 8002
sleep 600
"""


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """slurm(*words, **settings) runs a command of the cluster and returns what it says; the nodes are n1 to n4, at 127.0.0.1 to .4."""
    missing = [name for name in ("slurmctld", "slurmd", "munged", "sbatch") if not shutil.which(name)]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: apt-get install slurmctld slurmd slurm-client munge")
    folder, host = tmp_path_factory.mktemp("slurm"), socket.gethostname().partition(".")[0]
    port, *ports = free_ports(5)
    nodes = "\n".join(
        f"NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.{number} Port={at} CPUs=2" for number, at in enumerate(ports, 1)
    )
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(folder=folder, host=host, port=port, nodes=nodes))
    (folder / "state").mkdir()
    (folder / "munge.key").write_bytes(bytes(range(256)) * 4)
    (folder / "munge.key").chmod(0o400)
    folder.chmod(0o755)
    files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    env = {"SLURM_CONF": str(conf), "PATH": path, "HOME": str(Path.home())}
    commands = [
        ["munged", "--force", "--foreground", f"--socket={folder}/munge.socket", *files],
        ["slurmctld", "-D"],
        *(["slurmd", "-D", "-N", f"n{number}"] for number in range(1, 5)),
    ]
    daemons = []
    for number, command in enumerate(commands):
        with (folder / f"out-{number}").open("w") as out:
            daemons.append(subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT))
        time.sleep(0.5)

    def slurm(*words: object, cwd: Path = ROOT, **settings: object) -> str:
        told = env | {name: str(value) for name, value in settings.items()}
        result = subprocess.run([str(word) for word in words], env=told, cwd=cwd, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout.strip()

    until(lambda: slurm("sinfo", "--noheader", "--format=%D %T") == "4 idle", folder)
    yield slurm
    for daemon in reversed(daemons):
        daemon.terminate()
        daemon.wait(60)


def until(true: Any, folder: Path, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "".join(
            f"{path.name}: {path.read_text(errors='replace')[-1500:]}\n" for path in folder.glob("*log*") if path.is_file()
        )
        time.sleep(0.3)


def state(slurm: Any, job: str) -> str:
    return slurm("scontrol", "show", "job", job, "--oneliner").partition("JobState=")[2].split()[0]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose recipes only note what they are told."""
    (tmp_path / "recipes").mkdir()
    for name, text in {"grpo_rag": TOLD, "deploy": SERVES, "rollout": SERVES}.items():
        (tmp_path / f"recipes/{name}.sh").write_text(text)
    (tmp_path / "recipes/lib.sh").touch()
    shutil.copy(ROOT / "recipes/slurm.sbatch", tmp_path / "recipes")
    return tmp_path


@pytest.mark.slow
def test_each_node_is_told_its_part_and_a_requeue_tells_it_again(slurm: Any, project: Path) -> None:
    words = ["--parsable", "--nodes=4", "recipes/slurm.sbatch", "--learning_rate", "5e-7 x"]
    job = slurm("sbatch", *words, cwd=project, JUDGE_NODES=1, ROLLOUT_NODES=1)
    told = project / "told"
    for start in range(2):
        until(lambda: all((told / f"train-{rank}").is_file() for rank in range(2)) and len((told / "train-1").read_text()) > 200, project)
        for rank in range(2):
            assert dict(line.split("=", 1) for line in (told / f"train-{rank}").read_text().splitlines()) == {
                "NNODES": "2",
                "NODE_RANK": str(rank),
                "MASTER_ADDR": "127.0.0.3",
                "MASTER_PORT": str(20000 + int(job) % 10000),
                "ROLLOUT_HOST": "127.0.0.2",
                "PROFILE": "multinode",
                "RESUME": "1",
                "OVERTAKE_JUDGE_BASE_URL": "http://127.0.0.1:8002/v1",
                "OVERTAKE_JUDGE_MODEL": "judge",
                "SLURMD_NODENAME": f"n{rank + 3}",
            }
            assert (told / f"words-{rank}").read_text().splitlines() == ["--learning_rate", "5e-7 x"]
        assert (told / "deploy.sh-127.0.0.1").read_text() == "HOST=127.0.0.1 ROLE=judge OPEN=1 NODE=n1"
        assert (told / "rollout.sh-127.0.0.2").read_text() == "HOST=127.0.0.2 ROLE= OPEN= NODE=n2"
        if start == 0:
            slurm("scontrol", "requeue", job)
            shutil.rmtree(told)
    (told / "end").touch()
    until(lambda: state(slurm, job) in ("COMPLETED", "FAILED"), project)
    assert state(slurm, job) == "COMPLETED", "the servers were ended with the training"
    assert slurm("scontrol", "show", "job", job, "--oneliner").partition("Restarts=")[2].startswith("1")


@pytest.mark.slow
def test_a_job_with_no_node_left_to_train_is_refused_in_words(slurm: Any, project: Path) -> None:
    job = slurm("sbatch", "--parsable", "--nodes=2", "recipes/slurm.sbatch", cwd=project, JUDGE_NODES=1, ROLLOUT_NODES=1)
    until(lambda: state(slurm, job) == "FAILED", project)
    log = (project / f"overtake-{job}.log").read_text()
    assert "error: 2 nodes, of which 1 judge and 1 write rollouts: none is left to train; ask for more with --nodes" in log


@pytest.mark.slow
def test_a_server_that_ends_before_the_training_fails_the_job_in_words(slurm: Any, project: Path) -> None:
    (project / "recipes/rollout.sh").write_text("exit 3")
    job = slurm("sbatch", "--parsable", "--nodes=2", "recipes/slurm.sbatch", cwd=project)
    until(lambda: state(slurm, job) == "FAILED", project)
    assert "error: a server of this job has ended with 3 while it was needed: see above" in (project / f"overtake-{job}.log").read_text()


@pytest.mark.slow
def test_a_training_on_two_nodes_goes_on_from_its_last_checkpoint_when_it_is_requeued(slurm: Any, tmp_path: Path, write_tiny: Any) -> None:
    tiny = write_tiny(tmp_path, {"train": 64, "val": 8})
    steps = 60
    flags = ["--model_type", "qwen3", "--template", "qwen3", "--max_steps", steps, "--save_steps", 5, "--eval_strategy", "no"]
    flags += ["--logging_steps", 1, "--save_total_limit", 30]
    given = {"RECIPE": "sft_qwen32b.sh", "PROFILE": "cpu", "ROLLOUT_NODES": 0, "MODEL": tiny / "tiny", "DATASET": tiny / "train.jsonl"}
    given |= {"OUTPUT_DIR": tmp_path / "sft", "OMP_NUM_THREADS": 1, "DOCTOR": 0}
    log = tmp_path / "job.log"
    job = slurm("sbatch", "--parsable", "--nodes=2", f"--output={log}", "recipes/slurm.sbatch", *flags, **given)
    until(lambda: (tmp_path / "sft/checkpoint-5/trainer_state.json").is_file(), tmp_path, 600)
    slurm("scontrol", "requeue", job)
    until(lambda: state(slurm, job) in ("COMPLETED", "FAILED"), tmp_path, 900)
    text = log.read_text(errors="replace")
    assert state(slurm, job) == "COMPLETED", text[-3000:]
    assert "going on from" in text
    final = json.loads((tmp_path / f"sft/checkpoint-{steps}/trainer_state.json").read_text())
    assert [row["step"] for row in final["log_history"] if "loss" in row] == list(range(1, steps + 1)), "no step twice, none left out"
    assert len([row for row in read_log(tmp_path / "sft") if "loss" in row]) >= steps
