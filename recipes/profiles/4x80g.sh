# shellcheck shell=bash disable=SC2034
# Four cards of 80 GB (A100, H100): 32B with LoRA. The bf16 weights alone are 65 GB, so ZeRO-3 shards them: 16 GB a card.
GPUS=4 GPU_GB=80
DEFAULT_MODEL=Qwen/Qwen2.5-32B-Instruct
RUN_ENV=(NPROC_PER_NODE=4)
TRAIN_FLAGS=(--torch_dtype bfloat16 --deepspeed zero3)
# vLLM shares the cards: its copy is split over the four (16 GB each, as much again for the cache, hence 0.45), it sleeps while the
# model trains, and the model leaves the card while vLLM samples. Weights move in 16 parts: gathered whole they would not fit.
GRPO_FLAGS=(--use_vllm true --vllm_mode colocate --vllm_tensor_parallel_size 4 --vllm_gpu_memory_utilization 0.45
  --vllm_max_model_len 2304 --sleep_level 1 --move_model_batches 16 --offload_model true --offload_optimizer true)
SAMPLE_FLAGS=(--sampler_engine vllm --torch_dtype bfloat16
  --engine_kwargs '{"tensor_parallel_size": 4, "gpu_memory_utilization": 0.9, "max_model_len": 4096}')
DEPLOY_FLAGS=(--torch_dtype bfloat16 --infer_backend vllm --vllm_tensor_parallel_size 4 --vllm_max_model_len 4096)
