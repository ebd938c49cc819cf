# shellcheck shell=bash disable=SC2034
# One card of 24 GB, or of 16 GB with SHORT=1: 7B with LoRA on a base in 4 bits (NF4, double quantisation by bitsandbytes); a 1.5B in 16 GB.
# Run where: parsed by ms-swift's own argument classes in the tests; not yet run on GPUs.
# Rollouts by transformers: vLLM would need the base a second time, unquantised.
# Memory: `python tools/doctor.py --memory 1x24g-4bit` prints it part by part (PPO's critic is a 0.5B in 16 bits).
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
