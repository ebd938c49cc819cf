# shellcheck shell=bash disable=SC2034
# One card of 80 GB (A100, H100, H200): 8B with LoRA.
# Run where: parsed by ms-swift's own argument classes in the tests; not yet run on GPUs. Its way of working runs in cpu-vllm.
# Memory: `python tools/doctor.py --memory 1x80g` prints it part by part. vLLM's 0.4 of the card leaves a cache for 49 of the 64 rows that are
# asked for at once; the others wait their turn. PPO's critic is a copy of the policy's own base without its language head.
GPUS=1 GPU_GB=80
DEFAULT_MODEL=Qwen/Qwen3-8B
TRAIN_FLAGS=(--torch_dtype bfloat16)
# 4 x 16 = 64 rewrites an update, as on four cards; four such in a round of PPO. vLLM sleeps while the model trains.
RL_FLAGS=(--gradient_accumulation_steps 16
  --use_vllm true --vllm_mode colocate --vllm_gpu_memory_utilization 0.4 --vllm_max_model_len 2304 --sleep_level 1)
SAMPLE_FLAGS=(--sampler_engine vllm --torch_dtype bfloat16 --engine_kwargs '{"gpu_memory_utilization": 0.9, "max_model_len": 4096}')
DEPLOY_FLAGS=(--torch_dtype bfloat16 --infer_backend vllm --vllm_max_model_len 4096)
