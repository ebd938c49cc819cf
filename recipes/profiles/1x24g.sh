# shellcheck shell=bash disable=SC2034
# One card of 24 GB (RTX 4090, A10, L4): 3B with LoRA.
# Run where: parsed by ms-swift's own argument classes in the tests; not yet run on GPUs. Its way of working runs in cpu-vllm.
# Memory: `python tools/doctor.py --memory 1x24g` prints it part by part. vLLM's 0.45 of the card leaves a cache for 38 of the 64 rows that are
# asked for at once; the others wait their turn. PPO's critic is a 0.5B: as large as the policy it would make 25.7 of 24.1 while sampling.
GPUS=1 GPU_GB=24
DEFAULT_MODEL=Qwen/Qwen2.5-3B-Instruct
DEFAULT_CRITIC=Qwen/Qwen2.5-0.5B-Instruct
TRAIN_FLAGS=(--torch_dtype bfloat16)
# One row at a time, 16 before an update as elsewhere.
SFT_FLAGS=(--per_device_train_batch_size 1 --gradient_accumulation_steps 16 --per_device_eval_batch_size 1)
RL_FLAGS=(--per_device_train_batch_size 2 --gradient_accumulation_steps 32
  --use_vllm true --vllm_mode colocate --vllm_gpu_memory_utilization 0.45 --vllm_max_model_len 2304 --sleep_level 1)
SAMPLE_FLAGS=(--sampler_engine vllm --torch_dtype bfloat16 --engine_kwargs '{"gpu_memory_utilization": 0.9, "max_model_len": 4096}')
DEPLOY_FLAGS=(--torch_dtype bfloat16 --infer_backend vllm --vllm_max_model_len 4096)
