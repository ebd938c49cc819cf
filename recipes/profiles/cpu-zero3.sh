# shellcheck shell=bash disable=SC2034
# No GPU, laid out as 4x80g is: ZeRO-3 shards the weights too, vLLM's copy is split over both processes, and the weights move to it in
# parts while the model is set aside. What is left out is vLLM's sleep, which needs a GPU.
# Run where: GRPO in the tests; two CPU cores.
# shellcheck source=/dev/null
source "$ROOT/recipes/profiles/cpu-zero2.sh"
RUN_ENV+=(VLLM_CPU_KVCACHE_SPACE=1)
TRAIN_FLAGS+=(--deepspeed zero3)
# A prompt that is cut in two would set back the random numbers of its row, which vLLM can on a GPU only.
RL_FLAGS+=(--use_vllm true --vllm_mode colocate --vllm_tensor_parallel_size 2 --vllm_enforce_eager true --vllm_max_model_len 2304
  --move_model_batches 2 --offload_model true --offload_optimizer true
  --vllm_engine_kwargs '{"enable_chunked_prefill": false, "max_num_batched_tokens": 2304}')
