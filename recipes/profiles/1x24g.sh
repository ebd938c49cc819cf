# shellcheck shell=bash disable=SC2034
# One card of 24 GB (RTX 4090, A10, L4): 3B with LoRA.
GPUS=1 GPU_GB=24
DEFAULT_MODEL=Qwen/Qwen2.5-3B-Instruct
TRAIN_FLAGS=(--torch_dtype bfloat16)
# Logits of a 150k vocabulary over 2048 tokens are what fills a small card: one row at a time, 16 before an update as elsewhere.
SFT_FLAGS=(--per_device_train_batch_size 1 --gradient_accumulation_steps 16 --per_device_eval_batch_size 1)
# 6 GB of weights twice, once for training and once in vLLM's 0.45 of the card.
GRPO_FLAGS=(--per_device_train_batch_size 2 --gradient_accumulation_steps 32
  --use_vllm true --vllm_mode colocate --vllm_gpu_memory_utilization 0.45 --vllm_max_model_len 2304 --sleep_level 1)
SAMPLE_FLAGS=(--sampler_engine vllm --torch_dtype bfloat16 --engine_kwargs '{"gpu_memory_utilization": 0.9, "max_model_len": 4096}')
DEPLOY_FLAGS=(--torch_dtype bfloat16 --infer_backend vllm --vllm_max_model_len 4096)
