#!/usr/bin/env bash
# Export: a checkpoint becomes a folder of its own, to deploy or to hand on. LoRA is merged into its base model; a full checkpoint is
# copied without the optimiser's states. Runs anywhere with room for the weights in memory (32B: 65 GB) and twice that on disk.
#   bash recipes/export.sh                                                         # of the run written last, the best checkpoint on held-out rows
#   ADAPTER=output/query_rewrite/grpo/checkpoint-50 bash recipes/export.sh
#   SYSTEM=finance bash recipes/export.sh                                          # of another system than query rewriting
#   OUTPUT_DIR=models/rewriter bash recipes/export.sh                              # default: beside the checkpoint, -merged
#   COMPARED=out/eval/summary.json bash recipes/export.sh    # refused where tools/evaluate.py --against shows it worse; default: eval/ beside the run
#   START=SFT METRIC=ndcg@10 bash recipes/export.sh          # than which system of the comparison (SFT), in which metric (any); FORCE=1 overrides
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
use_swift

SYSTEM=${SYSTEM:-query_rewrite}
task=$(task_of "$SYSTEM") || exit 2
{ read -r SYSTEM; } <<<"$task"
adapter=${ADAPTER:-$(newest "$SYSTEM")}
[[ -n $adapter ]] || { want "there is no checkpoint under $ROOT/output/$SYSTEM. Train first, or set ADAPTER="; adapter=$ROOT/output/$SYSTEM/grpo/checkpoint-LAST; }
if [[ -z ${ADAPTER:-} && -d $adapter ]]; then
  best=$(best_of "$adapter")
  [[ $best == "$adapter" ]] || note "${adapter##*/} was written last, ${best##*/} did best on held-out rows: taking that one (ADAPTER= takes another)"
  adapter=$best
fi
adapter=$(absolute "$adapter")
target=$(absolute "${OUTPUT_DIR:-$adapter-merged}")
# ms-swift would keep the old weights in an existing folder and say nothing.
[[ ! -e $target ]] || want "$target already exists. Remove it, or set OUTPUT_DIR= to a new folder"
# The promotion gate: not what is shown worse, on held-out rows, than the model it starts from.
compared=${COMPARED:-$(comparison_of "$adapter")}
if [[ -n $compared ]]; then
  status=0
  said=$(with_plugin python3 "$ROOT/tools/gate.py" "$compared" "$adapter" --start "${START:-SFT}" --metric "${METRIC:-}" 2>&1) || status=$?
  if ((status == 1)); then
    if [[ ${FORCE:-0} == 1 ]]; then note "$said; exported all the same (FORCE=1)"
    else want "$said. Not exported; FORCE=1 exports it all the same"; fi
  elif ((status)); then
    if [[ -n ${COMPARED:-} ]]; then want "COMPARED=$said"
    else note "not held against $said"; fi
  fi
fi
# Written aside and renamed when complete, so that a folder with that name is always whole.
part=$target.part

if is_model "$adapter"; then
  echo "copying $adapter (a full checkpoint) to $target"
  dry && exit
  rm -rf "$part" && mkdir -p "$part"
  find "$adapter" -maxdepth 1 -type f ! -name 'optimizer*' ! -name 'scheduler*' ! -name 'rng_state*' ! -name 'trainer_state.json' \
    ! -name 'training_args.bin' ! -name '*.pth' -exec cp -t "$part" {} +
else
  is_adapter "$adapter" || want "$adapter is no checkpoint: neither adapter_config.json nor config.json is in it"
  # shellcheck disable=SC2034
  if [[ ${PROFILE:-} == cpu ]]; then RUN_ENV=(CUDA_VISIBLE_DEVICES=); else RUN_ENV=(); fi
  # ms-swift reads the base from its own args.json; an adapter of PEFT, LLaMA-Factory, TRL or Unsloth has none.
  [[ -f $adapter/args.json || ! -e $adapter ]] || set_base "$adapter"
  set_flags --adapters "$adapter" --merge_lora true --output_dir "$part" "$@"
  dry || rm -rf "$part"
  run_swift export
  dry && { echo "mv $part $target"; exit; }
fi
# The folder may be moved to where this project is not: serving it needs none of the plugins that training did. How it was trained to answer
# is for deploy.sh; ms-swift does not hand it on.
python3 - "$part/args.json" "$adapter/args.json" <<'PY'
import json, pathlib, sys
file, before = map(pathlib.Path, sys.argv[1:])
if file.exists():
    args = json.loads(file.read_text("utf-8"))
    trained = json.loads(before.read_text("utf-8")) if before.exists() else {}
    args |= {name: trained[name] for name in ("enable_thinking", "max_completion_length") if trained.get(name) is not None}
    args["external_plugins"] = []
    file.write_text(json.dumps(args, ensure_ascii=False, indent=2), "utf-8")
PY
mv "$part" "$target"
echo "exported: $target"
