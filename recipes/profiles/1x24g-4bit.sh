# shellcheck shell=bash disable=SC2034
# One card of 24 GB, or of 16 GB with SHORT=1: 7B with LoRA on a base in 4 bits (NF4, double quantisation by bitsandbytes); a 1.5B in 16 GB.
# Run where: parsed by ms-swift's own argument classes in the tests; not yet run on GPUs.
# Rollouts by transformers: vLLM would need the base a second time, unquantised.
# GRPO's memory in GB (10^9 bytes) at worst: 1 row of 1024 + 1024 tokens, and 16 sampled at once. SFT holds one row of 2048.
#   weights           6.53e9 x 0.516 bytes (4 bits and double-quantised scales)         3.4
#   embeddings        1.09e9 x 2 bytes (in and out, bf16)                               2.2
#   LoRA              40.4e6 weights x 16 bytes (fp32: weight, gradient, two of Adam)   0.6
#   kept activations  2048 tokens x 28 layers x 3584 x 2 bytes (checkpointing)          0.4
#   one layer's own   2048 tokens x (8 x 18944 + 12 x 3584) x 2 bytes                   0.8
#   logits            1 x 1024 x 152064 x 12 bytes (bf16, scaled, fp32, gradient)       1.9
#   cache of rollouts  16 x 2048 x 2 x 28 x 512 x 2 bytes                                1.9
#   CUDA, fragments, what is unpacked                                  assumed          3.0
#   training: 14.2 of 24.1
#   sampling: 3.4 + 2.2 + 0.6, the cache 1.9 and 3.0: 11.1 of 24.1
# PPO adds a critic, a copy of Qwen2.5-0.5B, in 16 bits:
#   its weights       0.49e9 x 2 bytes                                                  1.0
#   its LoRA          8.8e6 weights x 16 bytes                                          0.1
#   its activations   2048 tokens x 24 layers x 896 x 2 bytes (checkpointing)           0.1
#   entropy           1 x 1024 x 152064 x 8 bytes (three parts of it, and gradient)     1.2
#   training with the critic: 16.6 of 24.1
#   sampling with the critic: 12.2 of 24.1
GPUS=1 GPU_GB=16
DEFAULT_MODEL=Qwen/Qwen2.5-7B-Instruct
DEFAULT_CRITIC=Qwen/Qwen2.5-0.5B-Instruct
TRAIN_FLAGS=(--torch_dtype bfloat16
  --quant_method bnb --quant_bits 4 --bnb_4bit_quant_type nf4 --bnb_4bit_use_double_quant true --bnb_4bit_compute_dtype bfloat16)
SFT_FLAGS=(--per_device_train_batch_size 2 --gradient_accumulation_steps 8 --per_device_eval_batch_size 1)
# 64 answers an update; sampling and training take turns.
RL_FLAGS=(--per_device_train_batch_size 1 --gradient_accumulation_steps 64 --per_device_eval_batch_size 8 --use_vllm false)
SAMPLE_FLAGS=(--sampler_engine transformers --torch_dtype bfloat16 --num_sampling_batch_size 16)
DEPLOY_FLAGS=(--torch_dtype bfloat16 --infer_backend transformers --quant_method bnb --quant_bits 4 --bnb_4bit_quant_type nf4
  --bnb_4bit_use_double_quant true --bnb_4bit_compute_dtype bfloat16)
