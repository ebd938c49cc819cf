# shellcheck shell=bash disable=SC2034
# Four cards of 80 GB (A100, H100): 32B with LoRA. The weights alone are 65.5 GB, so ZeRO-3 shards them and vLLM splits its copy.
# Run where: parsed by ms-swift's own argument classes in the tests; not yet run on GPUs. Its layout runs in cpu-zero3.
# Memory: `python tools/doctor.py --memory 4x80g` prints it part by part. On the weights' way to vLLM a sixteenth of the model is gathered at a
# time; gathered whole it would take 122 of 85. While vLLM samples the model is in host memory. PPO's critic is a 7B (InstructGPT's had 6B
# beside a policy of 175B): as large as the policy it would make 77.6 of 85 on that way, and every layer would be gathered twice as often.
GPUS=4 GPU_GB=80
DEFAULT_MODEL=Qwen/Qwen2.5-32B-Instruct
DEFAULT_CRITIC=Qwen/Qwen2.5-7B-Instruct
RUN_ENV=(NPROC_PER_NODE=4)
TRAIN_FLAGS=(--torch_dtype bfloat16 --deepspeed zero3)
# vLLM sleeps while the model trains, and the model leaves the card while vLLM samples.
RL_FLAGS=(--use_vllm true --vllm_mode colocate --vllm_tensor_parallel_size 4 --vllm_gpu_memory_utilization 0.45
  --vllm_max_model_len 2304 --sleep_level 1 --move_model_batches 16 --offload_model true --offload_optimizer true)
SAMPLE_FLAGS=(--sampler_engine vllm --torch_dtype bfloat16
  --engine_kwargs '{"tensor_parallel_size": 4, "gpu_memory_utilization": 0.9, "max_model_len": 4096}')
DEPLOY_FLAGS=(--torch_dtype bfloat16 --infer_backend vllm --vllm_tensor_parallel_size 4 --vllm_max_model_len 4096)
