# shellcheck shell=bash disable=SC2034
# No GPU: a model of some millions of weights, to see the whole chain work on two cores. The GPUs of this machine are hidden.
# Run where: in the tests, every recipe, and in the quickstart; two CPU cores.
DEFAULT_MODEL=Qwen/Qwen2.5-0.5B-Instruct
# vLLM would leave a core to its scheduler, half of two. GiB for its cache, which would otherwise take half of the memory.
RUN_ENV=(CUDA_VISIBLE_DEVICES= ACCELERATE_USE_CPU=true VLLM_PLUGINS=overtake_on_cpu VLLM_CPU_OMP_THREADS_BIND=nobind VLLM_CPU_KVCACHE_SPACE=1)
# bf16 where the processor has units for it: 1.7 times as fast, and half of the memory. Elsewhere it is only emulated, as fp16 is anywhere.
if ! dry && lscpu 2>/dev/null | grep -qE 'avx512_bf16|amx_bf16'; then precision=bfloat16; else precision=float32; fi
# All weights of a model in bf16 would lose small updates, adapters stay in fp32. transformers takes bf16 for a GPU's unless it is told.
if [[ $precision == bfloat16 && $TUNER == lora ]]; then
  TRAIN_FLAGS=(--torch_dtype bfloat16 --bf16 true --use_cpu true)
else
  TRAIN_FLAGS=(--torch_dtype float32 --bf16 false)
fi
# float32 alone would make ms-swift turn fp16 on. A worker process costs more than it loads here.
TRAIN_FLAGS+=(--fp16 false --gradient_checkpointing false --dataloader_num_workers 0 --dataloader_pin_memory false)
SFT_FLAGS=(--per_device_train_batch_size 8 --gradient_accumulation_steps 1)
# 8 rewrites an update, sampled by transformers: in GRPO one question, in PPO eight, of 32 in a round.
RL_FLAGS=(--per_device_train_batch_size 8 --gradient_accumulation_steps 1)
# 16 questions a batch: hundreds of rewrites at a time would only fill the memory.
SAMPLE_FLAGS=(--sampler_engine transformers --torch_dtype "$precision" --num_sampling_batch_size 16)
# vLLM answers eight at once ten times as fast; compiling would take two minutes more at the start.
DEPLOY_FLAGS=(--torch_dtype "$precision" --infer_backend vllm --vllm_enforce_eager true --vllm_max_model_len 4096)
