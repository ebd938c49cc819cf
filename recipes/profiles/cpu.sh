# shellcheck shell=bash disable=SC2034
# No GPU: a model of some millions of weights, to see the whole chain work on two cores. The GPUs of this machine are hidden.
# Run where: in the tests, every recipe, and in the quickstart; two CPU cores.
DEFAULT_MODEL=Qwen/Qwen2.5-0.5B-Instruct
RUN_ENV=(CUDA_VISIBLE_DEVICES= ACCELERATE_USE_CPU=true VLLM_PLUGINS=none)
# float32 alone would make ms-swift turn fp16 on, which a CPU only emulates. A worker process costs more than it loads here.
TRAIN_FLAGS=(--torch_dtype float32 --fp16 false --bf16 false --gradient_checkpointing false --dataloader_num_workers 0
  --dataloader_pin_memory false)
SFT_FLAGS=(--per_device_train_batch_size 8 --gradient_accumulation_steps 1)
# 8 rewrites an update, sampled by transformers: in GRPO one question, in PPO eight, of 32 in a round.
RL_FLAGS=(--per_device_train_batch_size 8 --gradient_accumulation_steps 1)
# 16 questions a batch: hundreds of rewrites at a time would only fill the memory.
SAMPLE_FLAGS=(--sampler_engine transformers --torch_dtype float32 --num_sampling_batch_size 16)
DEPLOY_FLAGS=(--torch_dtype float32 --infer_backend transformers)
