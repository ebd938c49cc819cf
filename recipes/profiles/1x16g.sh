# shellcheck shell=bash disable=SC2034
# One card of 16 GB with bf16 (RTX 4080, A4000): 1.5B with LoRA.
GPUS=1 GPU_GB=16
DEFAULT_MODEL=Qwen/Qwen2.5-1.5B-Instruct
TRAIN_FLAGS=(--torch_dtype bfloat16)
# As on 24 GB: one row at a time, 16 before an update.
SFT_FLAGS=(--per_device_train_batch_size 1 --gradient_accumulation_steps 16 --per_device_eval_batch_size 1)
# 3 GB of weights twice.
GRPO_FLAGS=(--per_device_train_batch_size 2 --gradient_accumulation_steps 32
  --use_vllm true --vllm_mode colocate --vllm_gpu_memory_utilization 0.4 --vllm_max_model_len 2304 --sleep_level 1)
SAMPLE_FLAGS=(--sampler_engine vllm --torch_dtype bfloat16 --engine_kwargs '{"gpu_memory_utilization": 0.9, "max_model_len": 4096}')
DEPLOY_FLAGS=(--torch_dtype bfloat16 --infer_backend vllm --vllm_max_model_len 4096)
