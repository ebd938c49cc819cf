# shellcheck shell=bash disable=SC2034
# One card of 80 GB (A100, H100, H200): 8B with LoRA.
GPUS=1 GPU_GB=80
DEFAULT_MODEL=Qwen/Qwen3-8B
TRAIN_FLAGS=(--torch_dtype bfloat16)
# 16 GB of weights stay; vLLM sleeps while the model trains and takes 0.4 of the card (its own 16 GB and the cache) while it samples.
# 4 x 16 = 64 rewrites an update, as on four cards.
GRPO_FLAGS=(--gradient_accumulation_steps 16
  --use_vllm true --vllm_mode colocate --vllm_gpu_memory_utilization 0.4 --vllm_max_model_len 2304 --sleep_level 1)
SAMPLE_FLAGS=(--sampler_engine vllm --torch_dtype bfloat16 --engine_kwargs '{"gpu_memory_utilization": 0.9, "max_model_len": 4096}')
DEPLOY_FLAGS=(--torch_dtype bfloat16 --infer_backend vllm --vllm_max_model_len 4096)
