# shellcheck shell=bash disable=SC2034
# One card of 80 GB (A100, H100, H200): 8B with LoRA.
# Run where: parsed by ms-swift's own argument classes in the tests; not yet run on GPUs. Its way of working runs in cpu-vllm.
# GRPO's memory in GB (10^9 bytes) at worst: 4 rows of 2048 + 150 tokens. SFT holds two rows and no vLLM.
#   weights           8.19e9 x 2 bytes                                                 16.4
#   LoRA              43.6e6 weights x 16 bytes (fp32: weight, gradient, two of Adam)   0.7
#   kept activations  8792 tokens x 36 layers x 4096 x 2 bytes (checkpointing)          2.6
#   one layer's own   8792 tokens x (8 x 12288 + 12 x 4096) x 2 bytes                   2.6
#   logits            4 x 150 x 151936 x 12 bytes (bf16, scaled, fp32, gradient)        1.1
#   CUDA, fragments, what vLLM keeps asleep                            assumed          3.0
#   training: 26.4 of 85
#   sampling: 16.4 + 0.7 + 1.5 and vLLM's 0.4 x 85 = 34.0: 52.6 of 85
#   vLLM's 34.0: weights 16.4, activations 1.5 (assumed), cache 16.1 = 109 000 tokens of 2 x 36 layers x 8 heads x 128 x 2 bytes: 49 rows
#   of 2198 at once, of 64 that are asked for; the others wait their turn
# PPO adds a critic, a copy of the policy's own base without its language head:
#   its weights       7.57e9 x 2 bytes                                                 15.1
#   its LoRA          43.6e6 weights x 16 bytes                                         0.7
#   its activations   8792 tokens x 36 layers x 4096 x 2 bytes (checkpointing)          2.6
#   entropy           4 x 150 x 151936 x 8 bytes (log-softmax, exp, product, gradient)  0.7
#   training with the critic: 45.5 of 85
#   sampling with the critic: 68.4 of 85
GPUS=1 GPU_GB=80
DEFAULT_MODEL=Qwen/Qwen3-8B
TRAIN_FLAGS=(--torch_dtype bfloat16)
# 4 x 16 = 64 rewrites an update, as on four cards; four such in a round of PPO. vLLM sleeps while the model trains.
RL_FLAGS=(--gradient_accumulation_steps 16
  --use_vllm true --vllm_mode colocate --vllm_gpu_memory_utilization 0.4 --vllm_max_model_len 2304 --sleep_level 1)
SAMPLE_FLAGS=(--sampler_engine vllm --torch_dtype bfloat16 --engine_kwargs '{"gpu_memory_utilization": 0.9, "max_model_len": 4096}')
DEPLOY_FLAGS=(--torch_dtype bfloat16 --infer_backend vllm --vllm_max_model_len 4096)
