# shellcheck shell=bash disable=SC2034
# One card of 24 GB (RTX 4090, A10, L4): 3B with LoRA.
# Run where: parsed by ms-swift's own argument classes in the tests; not yet run on GPUs. Its way of working runs in cpu-vllm.
# GRPO's memory in GB (10^9 bytes) at worst: 2 rows of 2048 + 150 tokens. SFT holds one row and no vLLM.
#   weights           3.09e9 x 2 bytes                                                 6.2
#   LoRA              29.9e6 weights x 16 bytes (fp32: weight, gradient, two of Adam)  0.5
#   kept activations  4396 tokens x 36 layers x 2048 x 2 bytes (checkpointing)         0.6
#   one layer's own   4396 tokens x (8 x 11008 + 12 x 2048) x 2 bytes                  1.0
#   logits            2 x 150 x 151936 x 12 bytes (bf16, scaled, fp32, gradient)       0.5
#   CUDA, fragments, what vLLM keeps asleep                            assumed         2.5
#   training: 11.3 of 24.1
#   sampling: 6.2 + 0.5 + 1.5 and vLLM's 0.45 x 24.1 = 10.8: 19.0 of 24.1
#   vLLM's 10.8: weights 6.2, activations 1.5 (assumed), cache 3.1 = 84 000 tokens of 2 x 36 layers x 2 heads x 128 x 2 bytes: 38 rows
#   of 2198 at once, of 64 that are asked for; the others wait their turn
# PPO adds a critic, a copy of Qwen2.5-0.5B; one as large as the policy would make 25.7 of 24.1 while sampling:
#   its weights       0.49e9 x 2 bytes                                                 1.0
#   its LoRA          8.8e6 weights x 16 bytes                                         0.1
#   its activations   4396 tokens x 24 layers x 896 x 2 bytes (checkpointing)          0.2
#   entropy           2 x 150 x 151936 x 8 bytes (three parts of it, and gradient)     0.4
#   training with the critic: 13.0 of 24.1
#   sampling with the critic: 20.1 of 24.1
# The medical recipes (Qwen3-1.7B, 2 rows of 1024 + 768 tokens; PPO's critic is Qwen3-0.6B), GB as above:
#   training: weights 3.4 + LoRA 0.3 + kept 0.4 + layer 0.5 + logits 2.8 + 2.5 = 9.9; critic 1.2 + 0.2 + 0.2 and entropy 1.9: 13.4 of 24.1
#   sampling: 3.4 + 0.3 + 1.5 and vLLM's 10.8: 16.0, with the critic 17.4 of 24.1; its cache 5.9 = 51 000 tokens of 114 688 bytes
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
