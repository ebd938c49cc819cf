"""Kinds of recipes: train, sample, roll out, deploy, export, serve knowledge bases."""

import hashlib
import os
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

from overtake import boards, tasks
from overtake.evaluation import gate, summaries
from overtake.launch import checkpoints, distilling
from overtake.launch.command import Flags, Refused, put, quote, split, value
from overtake.launch.machine import check_port, is_loopback
from overtake.launch.processes import run_group
from overtake.launch.run import PLUGIN, ROOT, Run, absolute, local_or_hub, note
from overtake.task import Task

_TRAINING_ALONE = ("optimizer*", "scheduler*", "rng_state*", "trainer_state.json", "training_args.bin", "*.pth")
"""Files of a full checkpoint that only training goes on with."""
_OTHER_CRITICS = {"Qwen/Qwen3-32B": "Qwen/Qwen3-4B"}
"""Of policies that are no profile's own: of the other family's 32B one that reads its tokens, smaller than the counted one."""
_FLASH_ATTENTION = ("flash_attn", "flash_attn_interface", "flash_attn_3", "flash_attn_4")
"""Modules of its versions."""


def train(run: Run, kind: str) -> None:
    """Run `swift sft` or `swift rlhf`; `kind`: sft, grpo or ppo.

    Of a flag that several set the last wins: the recipe's numbers, the profile's, the caller's.
    """
    (task, *numbers), caller = split(run.given["words"])
    if run.setting("TUNER", "lora") not in ("lora", "full"):
        raise Refused(f"TUNER={run.settings['TUNER']}: lora or full")
    run.take_machine()
    out = absolute(run.setting("OUTPUT_DIR", str(ROOT / "output" / task / kind)))
    # What rewards cost is added up under this name, over ranks and restarts.
    run.settings["OVERTAKE_BUDGET_RUN"] = run.setting("OVERTAKE_BUDGET_RUN", str(out))
    run.put("--output_dir", str(out), "--add_version", "false", "--external_plugins", str(PLUGIN))
    # ms-swift waits 208 days for a rank that hangs; half an hour is longer than any step.
    run.put("--ddp_timeout", "1800", "--tuner_type", run.setting("TUNER", "lora"))
    _choose_boards(run, out)
    if kind == "sft":
        run.put_model(run.setting("MODEL", run.one("default_model")))
        run.put_rows(task, "train.jsonl", "val.jsonl")
    else:
        run.put("--rlhf_type", kind)
        run.put_start(task)
        if kind == "ppo":
            _choose_critic(run)
        run.put_rows(task, "rl_train.jsonl", "rl_val.jsonl")
    run.put(*numbers)
    run.put_given("train_flags", "sft_flags" if kind == "sft" else "rl_flags")
    distilling.put_teacher(run, kind)
    run.put(*caller)
    distilling.fit_gkd(run)
    if kind == "sft":
        _fill_batches(run)
    if "--swanlab_token" in run.flags:
        raise Refused("--swanlab_token: every user of this machine would see the key. Set SWANLAB_API_KEY= in the environment")
    # Without evaluations there is nothing to stop by, and ms-swift fails on comparing nothing.
    if run.value("--eval_strategy") == "no":
        run.drop("--early_stop_interval")
    if "--val_dataset" in run.flags:
        run.drop("--split_dataset_ratio")
    if run.full:
        run.drop("--lora_rank", "--lora_alpha", "--lora_dropout", "--target_modules")
    there = checkpoints.last(out)
    if there and run.setting("RESUME") == "1" and "--resume_from_checkpoint" not in run.flags:
        # What a killed run was writing is not whole; where nothing is, it begins anew.
        whole = checkpoints.last_whole(out)
        if whole:
            note(f"going on from {whole}")
            run.put("--resume_from_checkpoint", str(whole))
        there = whole
    if there and "--resume_from_checkpoint" not in run.flags:
        # Old and new checkpoints in one folder could not be told apart.
        remedy = f"Go on with it: add --resume_from_checkpoint {there}; or set OUTPUT_DIR=, or remove the folder"
        run.want(f"{out} already holds a run. {remedy}")
    subcommand = "sft" if kind == "sft" else "rlhf"
    stopped = out / "stopped.txt"
    if not run.dry:
        if run.setting("DOCTOR", "1") != "0" and run.tool(str(ROOT / "tools/doctor.py"), "--fast", echoed=run.text(subcommand) + "\n"):
            raise Refused("that would stop or spoil this run. Set it right, or go on regardless with DOCTOR=0")
        stopped.unlink(missing_ok=True)
    try:
        run.start(subcommand)
    except SystemExit:
        # Said already, but torchrun's report of its processes has buried it.
        if stopped.is_file():
            note(stopped.read_text(encoding="utf-8").removesuffix("\n"))
        raise


def _fill_batches(run: Run) -> None:
    """Have batches of rows of one length, so that little of them is padding; packed rows, which have none, want flash attention.

    Packing stays the caller's choice: with some hundreds of short rows it would leave an epoch without a whole update.
    """

    def on(name: str) -> bool:
        return name in run.flags and run.value(name).lower() in ("", "true", "1")

    asked = next((name for name in ("--packing", "--padding_free") if on(name)), "")
    if asked:
        if not any(map(find_spec, _FLASH_ATTENTION)):
            remedy = "Install flash-attn, or leave the flag out: batches are of rows of one length anyway"
            run.want(f"{asked} wants flash attention, and none of {', '.join(_FLASH_ATTENTION)} is installed. {remedy}")
        if "--attn_impl" not in run.flags:
            run.put("--attn_impl", "flash_attn")
    # Lengths are known where all rows are encoded beforehand, and rows that keep their order have no other.
    ordered = asked or on("--lazy_tokenize") or on("--streaming") or run.value("--train_dataloader_shuffle").lower() == "false"
    if "--group_by_length" not in run.flags and not ordered:
        run.put("--group_by_length", "true")


def _choose_boards(run: Run, out: Path) -> None:
    """Take the boards of REPORT_TO, where the run is watched beside TensorBoard."""
    requested = run.setting("REPORT_TO")
    if not requested:
        return
    try:
        flags, variables = boards.report(requested, out, run.settings)
    except ValueError as error:
        raise Refused(str(error)) from None
    # Their packages are those of the environment that trains.
    if not run.dry:
        run.check(run.tool("-m", "overtake.boards"))
    run.assigned += variables
    run.put(*flags)


def _choose_critic(run: Run) -> None:
    """Take the profile's critic, where it has one and the policy is of its family: the user's own choice, also of none, goes before it."""
    default, config = run.one("default_critic"), run.setting("OVERTAKE_CONFIG")
    critic = {run.one("default_model"): default, **_OTHER_CRITICS}.get(run.value("--model"), "")
    if not default or not critic or "OVERTAKE_CRITIC" in run.settings:
        return
    settings_file = Path(config).read_text(encoding="utf-8", errors="replace") if config and Path(config).is_file() else ""
    if not re.search(r"^critic *:", settings_file, re.MULTILINE):
        run.assigned.append(f"OVERTAKE_CRITIC={critic}")


def sample(run: Run) -> None:
    """Draw on every row of DATASET into OUTPUT_DIR/draws.jsonl by the model RL would start from, and keep the best draw of each.

    Draws that are there are not drawn again, and a run that was interrupted is gone on with. SELECT=1: the rows that teach something too.
    BEHIND=1: draws count behind their questions.
    """
    (task, *numbers), caller = split(run.given["words"])
    out = absolute(run.setting("OUTPUT_DIR", str(ROOT / "output" / task / "sample")))
    rows = absolute(run.setting("DATASET", str(ROOT / "output" / task / "data/rl_train.jsonl")))
    draws = out / "draws.jsonl"
    keep = [str(ROOT / "tools/select_best_of_n.py"), str(rows), str(draws), str(out / "train.jsonl")]
    if run.setting("SELECT", "0") != "0":
        keep += ["--selected", str(out / f"{rows.stem}.selected.jsonl")]
    if run.setting("BEHIND", "0") != "0":
        keep += ["--behind"]
    run.take_machine()
    lines = [line for line in rows.read_bytes().split(b"\n") if line.strip()] if rows.is_file() else []
    # What could not be measured afterwards is refused before a model is loaded.
    if lines and not run.dry:
        run.check(run.tool(*keep, "--check"))
    if not lines:
        run.want(f"{rows} does not exist or is empty. Make it: python {run.one('data_tool')}; or set DATASET=")
    run.put("--sampler_type", "sample", "--output_dir", str(out), "--output_file", draws.name, "--external_plugins", str(PLUGIN))
    run.put_start(task)
    # What only training knows.
    run.drop("--ref_adapters", "--check_model")
    run.put(*numbers, *run.given.get("sample_flags", ()), *caller)
    run.name_family()
    named = [run.value(f"--{name}") for name in ("engine_kwargs", "sampler_engine", "model", "adapters", "template", "system")]
    run.put("--engine_kwargs", checkpoints.engine_kwargs(*named))
    student = Path(run.value("--adapters") or run.value("--model"))
    batch, count = _even_batches(len(lines), run.value("--num_sampling_batch_size"))
    run.put("--dataset", f"overtake/sample:{rows}#{batch * count}", "--num_sampling_batch_size", str(batch))
    _draw(run, out, draws, rows)
    keep += ["--source", f"{student.parent.name or '.'}/{student.name}"]
    print(*map(quote, ["python", *keep]), flush=True)
    if not run.dry:
        run.check(run.tool(*keep))


def _even_batches(rows: int, size: str) -> tuple[int, int]:
    """(rows of a batch, batches): ms-swift leaves out the rows behind the last full batch, and fails where there is none.

    So the batches are made even, and the last is filled up with rows that are drawn on twice, fewer of them than there are batches.

    >>> _even_batches(9, "8"), _even_batches(3, "64"), _even_batches(0, "64")
    ((5, 2), (3, 1), (64, 1))
    """
    if not re.fullmatch(r"[1-9][0-9]*", size):
        raise Refused(f"--num_sampling_batch_size {size}: give a number of rows")
    batches = -(-rows // int(size))
    return (-(-rows // batches), batches) if batches else (int(size), 1)


def _draw(run: Run, out: Path, draws: Path, rows: Path) -> None:
    """Run `swift sample`, unless its draws are there."""
    if run.dry:
        print(run.text("sample"))
        return
    recipe = f"{run.text('sample')}\n# rows: {hashlib.sha256(rows.read_bytes()).hexdigest()}  -\n"
    mark, part = out / "asked.txt", Path(f"{draws}.resume")
    # The variables in front of the command are the machine's, and another machine may go on.
    asked = mark.read_text(encoding="utf-8") if mark.is_file() else ""
    if (draws.exists() or part.exists()) and asked.partition(" sample ")[2] != recipe.partition(" sample ")[2]:
        remedy = "Set OUTPUT_DIR=, or remove the folder"
        raise Refused(f"{out} holds draws by another command or on other rows (its asked.txt says which). {remedy}")
    out.mkdir(parents=True, exist_ok=True)
    mark.write_text(recipe, encoding="utf-8")
    if draws.exists():
        note(f"{draws} is there: nothing is drawn again")
        return
    state = out / "ckpt_state.json"
    if part.exists() and state.exists():
        # ms-swift copies the file after each batch: of a copy that was interrupted the last line is not whole.
        whole = part.read_bytes()
        part.write_bytes(whole[: whole.rfind(b"\n") + 1])
        run.put("--resume", "true")
    else:
        state.unlink(missing_ok=True)
    run.start("sample")


def rollout(run: Run) -> None:
    """Serve a model's rollouts to a training on other machines, which sends it the weights after every update."""
    (task, *numbers), caller = split(run.given["words"])
    run.take_machine()
    if not run.given.get("rollout_flags"):
        raise Refused(f"PROFILE={run.one('profile')} has no rollout server: its vLLM shares the training's cards. Set PROFILE=multinode")
    run.put_start(task)
    # The adapter comes with the first weights, merged into them.
    run.drop("--adapters", "--ref_adapters", "--check_model")
    # Where the weights will arrive. With this port taken ms-swift samples from the old weights and tells only its log.
    remedy = "Is another rollout server running here? Else set GROUP_PORT= to another, for the training too"
    check_port(run.setting("GROUP_PORT", "51216"), run.dry, remedy)
    run.put("--host", run.setting("HOST", "127.0.0.1"), "--port", run.setting("PORT", "8000"), *numbers)
    run.put_given("rollout_flags")
    run.put(*caller)
    check_port(run.value("--port"), run.dry)
    host = run.value("--host")
    if not is_loopback(host):
        if run.setting("ROLLOUT_OPEN") != "1":
            remedy = "set ROLLOUT_OPEN=1 where only the training machines reach it"
            run.want(f"HOST={host} lets other machines in, and ms-swift's trainer sends no key: {remedy}")
        way = f"through port {run.value('--port')} (ROLLOUT_OPEN=1)"
        note(f"warning: whoever reaches {host} can overwrite the weights {way}: let only the training machines through")
    run.start("rollout")


def _task(run: Run) -> Task:
    """The task of SYSTEM: a name, or the file of one's own."""
    try:
        return tasks.find(run.setting("SYSTEM", tasks.DEFAULT))
    except (ValueError, SyntaxError, ImportError) as error:
        raise Refused(" ".join(str(error).split())) from None


def deploy(run: Run) -> None:
    """Serve a model: a task's student, what was exported last, else the checkpoint written last; or the recipe's model for a role."""
    answers, caller = split(run.given["words"])
    served, port, model = run.one("served"), run.one("port"), run.setting("MODEL", run.setting("ADAPTER"))
    student = not served
    if student:
        task = _task(run)
        served, port, answers = task.served, str(task.port), [*answers, *task.decoding.serving]
        model = model or _latest(run, task)
    run.take_machine()
    folder = local_or_hub(model or run.one("default_model"))
    if checkpoints.is_adapter(Path(folder)):
        # ms-swift reads the base from its own args.json; an adapter of PEFT, LLaMA-Factory, TRL or Unsloth has none.
        if not (Path(folder) / "args.json").is_file():
            run.put_base(Path(folder), "")
        run.put("--adapters", folder)
    else:
        run.put("--model", folder)
    run.put("--host", run.setting("HOST", "127.0.0.1"), "--port", run.setting("PORT", port), "--served_model_name", served)
    # A client that hangs up ends its generation, which would hold a place to its last token.
    run.put("--external_plugins", str(PLUGIN), *answers)
    if student:
        # As the task says, but a checkpoint that was trained otherwise answers as it was trained.
        trained = checkpoints.answering(Path(folder))
        for name, flag in (("enable_thinking", "--enable_thinking"), ("max_completion_length", "--max_new_tokens")):
            if name in trained:
                run.put(flag, str(trained[name]).lower())
    run.put_given("deploy_flags")
    if engine := run.setting("INFER"):
        run.put("--infer_backend", engine)
        run.drop("--vllm_max_model_len", "--vllm_tensor_parallel_size", "--vllm_enforce_eager")
    run.put(*caller)
    check_port(run.value("--port"), run.dry)
    if "--adapters" in run.flags and run.value("--infer_backend") == "vllm" and run.one("profile").startswith("cpu"):
        # ms-swift's own --merge_lora would leave a folder that looks like an export, half of one where it is killed meanwhile.
        note("on a CPU vLLM answers four times as slowly with an adapter beside its base: bash recipes/export.sh merges it")
    if own_flags := [name for name in run.flags if name.startswith("--api")]:
        raise Refused(f"{own_flags[0]}: every user of this machine would see the key. Set API_KEY= in the environment instead")
    host = run.value("--host")
    if run.setting("API_KEY"):
        # It reads the key itself; `swift deploy` would be given it as an argument, and would print it.
        run.launcher = ("python", "-m", "overtake.keyed")
        path = run.setting("PYTHONPATH")
        run.assigned.append(f"PYTHONPATH={ROOT / 'plugin'}{':' + path if path else ''}")
    elif not is_loopback(host) and run.setting("OPEN") != "1":
        run.want(f"HOST={host} lets other machines in and no key is asked for: set API_KEY=, or OPEN=1 where that is meant")
    # ms-swift logs what is asked and answered: nobody else's business.
    os.umask(0o077)
    run.start("deploy")


def _latest(run: Run, task: Task) -> str:
    """What is deployed of a task where nothing is named."""
    folder = ROOT / "output" / task.called
    if latest := checkpoints.newest(folder, merged=True) or checkpoints.newest(folder):
        return str(latest)
    run.want(f"there is nothing under {folder} to deploy. Train first, or set MODEL= or ADAPTER=")
    return str(folder / "grpo/checkpoint-LAST-merged")


def export(run: Run) -> None:
    """Make a checkpoint a folder of its own, unless a held-out comparison shows it worse than the model it started from."""
    _, caller = split(["--", *run.given["words"]])
    task = _task(run)
    folder = ROOT / "output" / task.called
    named = run.setting("ADAPTER")
    latest = None if named else checkpoints.newest(folder)
    if not named and not latest:
        run.want(f"there is no checkpoint under {folder}. Train first, or set ADAPTER=")
    checkpoint = Path(named) if named else latest or folder / "grpo/checkpoint-LAST"
    if latest and (best := checkpoints.best_of(latest)) != latest:
        note(f"{latest.name} was written last, {best.name} did best on held-out rows: taking that one (ADAPTER= takes another)")
        checkpoint = best
    checkpoint = absolute(checkpoint)
    target = absolute(run.setting("OUTPUT_DIR", f"{checkpoint}-merged"))
    # ms-swift would keep the old weights in an existing folder and say nothing.
    if target.exists():
        run.want(f"{target} already exists. Remove it, or set OUTPUT_DIR= to a new folder")
    _pass_gate(run, checkpoint)
    # Written aside and renamed when complete, so that a folder with that name is always whole.
    part = Path(f"{target}.part")
    if checkpoints.is_model(checkpoint):
        print(f"copying {checkpoint} (a full checkpoint) to {target}", flush=True)
        if run.dry:
            return
        _copy(checkpoint, part)
    else:
        if not checkpoints.is_adapter(checkpoint):
            run.want(f"{checkpoint} is no checkpoint: neither adapter_config.json nor config.json is in it")
        run.assigned = ["CUDA_VISIBLE_DEVICES="] if run.setting("PROFILE") == "cpu" else []
        run.take_machine()
        # ms-swift reads the base from its own args.json; an adapter of PEFT, LLaMA-Factory, TRL or Unsloth has none.
        if checkpoint.exists() and not (checkpoint / "args.json").is_file():
            run.put_base(checkpoint, run.setting("MODEL"))
        run.put("--adapters", str(checkpoint), "--merge_lora", "true", "--output_dir", str(part), *caller)
        if not run.dry:
            shutil.rmtree(part, ignore_errors=True)
        run.start("export")
        if run.dry:
            print("mv", quote(str(part)), quote(str(target)))
            return
    checkpoints.make_portable(part, checkpoint)
    part.rename(target)
    print(f"exported: {target}")


def _pass_gate(run: Run, checkpoint: Path) -> None:
    """The promotion gate: raise Refused where held-out rows show a checkpoint worse than the model it starts from."""
    named = run.setting("COMPARED")
    file = Path(named) if named else checkpoints.comparison_of(checkpoint)
    if not file:
        return
    start, metric = run.setting("START", "SFT"), run.setting("METRIC")
    try:
        summary = gate.read(file)
        gate.check(file, summary, checkpoint, start, metric)
    except gate.Unreadable as error:
        if named:
            run.want(f"COMPARED={error}")
        else:
            note(f"not held against {error}")
        return
    shown = gate.worse(summary, summaries.better(summary, list(tasks.known().values())), start, metric)
    if shown and run.setting("FORCE") == "1":
        note(f"{shown}; exported all the same (FORCE=1)")
    elif shown:
        run.want(f"{shown}. Not exported; FORCE=1 exports it all the same")


def _copy(checkpoint: Path, part: Path) -> None:
    """Copy a full checkpoint's files but what only training goes on with."""
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for file in checkpoint.iterdir():
        if file.is_file() and not any(file.match(pattern) for pattern in _TRAINING_ALONE):
            shutil.copy(file, part)


def page(run: Run) -> None:
    """Open the page on this machine, on the port that PORT names."""
    words = list(run.given["words"])
    flags: Flags = {}
    put(flags, "--port", run.setting("PORT", "7860"), *words)
    check_port(value(flags, "--port"), dry=True)
    if not run.dry:
        run.take_machine()
    command = ["python", str(ROOT / "tools/page.py"), "--port", run.setting("PORT", "7860"), *words]
    print(*map(quote, command), flush=True)
    if not run.dry:
        run.check(run_group(command, run.settings))


def serve(run: Run) -> None:
    """Serve knowledge bases: the caller's words up to the first flag, else the samples."""
    argv = list(run.given["words"])
    at = next((at for at, word in enumerate(argv) if word.startswith("--")), len(argv))
    bases = [str(absolute(word)) for word in argv[:at]] or sorted(map(str, (ROOT / "datasets").glob(run.one("samples"))))
    address = ["--host", run.setting("HOST", "127.0.0.1"), "--port", run.setting("PORT", "8900")]
    flags: Flags = {}
    put(flags, *address, *argv[at:])
    check_port(value(flags, "--port"), dry=True)  # whether it is free the service sees, which may take one that was just left
    if not run.dry:
        run.take_machine()
    command = ["python", str(ROOT / "tools/serve_rag.py"), *bases, *address, *argv[at:]]
    print(*map(quote, command), flush=True)
    if not run.dry:
        run.check(run_group(command, run.settings))
