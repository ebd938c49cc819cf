# shellcheck shell=bash disable=SC2034
# Four cards of 80 GB (A100, H100): 32B with LoRA. The weights alone are 65.5 GB, so ZeRO-3 shards them and vLLM splits its copy.
# Run where: parsed by ms-swift's own argument classes in the tests; not yet run on GPUs. Its layout runs in cpu-zero3.
# GRPO's memory of a card in GB (10^9 bytes) at worst: 4 rows of 2048 + 150 tokens. SFT holds two rows and no vLLM: 27.
#   weights           32.76e9 x 2 bytes / 4                                                16.4
#   LoRA              134e6 weights x 16 bytes (fp32: weight, gradient, two of Adam) / 4    0.5
#   gathered layers   1e9 weights x 2 bytes (stage3_max_live_parameters)                    2.0
#   kept activations  8792 tokens x 64 layers x 5120 x 2 bytes (checkpointing)              5.8
#   one layer's own   8792 tokens x (8 x 27648 + 12 x 5120) x 2 bytes                       5.0
#   logits            4 x 150 x 152064 x 12 bytes (bf16, scaled, fp32, gradient)            1.1
#   CUDA, fragments, what vLLM keeps asleep                              assumed            4.0
#   training: 34.8 of 85
#   weights' way to vLLM: 16.4 + 0.5 + 1.5, 1/16 of the model gathered 4.1, vLLM's 38.2: 60.7 of 85; gathered whole it would be 122
#   sampling: the model is in host memory; 1.5 and vLLM's 0.45 x 85 = 38.2: 39.7 of 85
#   vLLM's 38.2: weights 65.5 / 4 = 16.4, activations 1.5 (assumed), cache 20.3 = 310 000 tokens of 2 x 64 layers x 2 of 8 heads x 128 x
#   2 bytes: 140 rows of 2198 at once, and 64 are asked for
#   host memory: the model set aside 65.5, vLLM's weights asleep 65.5, the four processes' own 20 (assumed): 151
# PPO adds a critic, a copy of Qwen2.5-7B (InstructGPT's had 6B beside a policy of 175B); as large as the policy it would make 77.6 of 85
# on the weights' way to vLLM, and every layer would be gathered twice as often:
#   its weights       7.07e9 x 2 bytes / 4                                                  3.5
#   its LoRA          40.4e6 weights x 16 bytes / 4                                         0.2
#   its activations   8792 tokens x 28 layers x 3584 x 2 bytes (checkpointing)              1.8
#   entropy           4 x 150 x 152064 x 8 bytes (log-softmax, exp, product, gradient)      0.7
#   training with the critic: 41.0 of 85; weights' way to vLLM 64.4; host memory 165
#   sampling with the critic: 39.7 of 85, as it is set aside with the model that it is a part of
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
