"""DeepSpeed ZeRO-3 in one process on the CPU, parameters and optimizer states offloaded to NVMe or to host memory."""

import os

# Before DeepSpeed is imported: it chooses its accelerator then, and would else look for an MPI launcher.
os.environ.update(DS_ACCELERATOR="cpu", RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", LOCAL_SIZE="1", MASTER_ADDR="127.0.0.1")
os.environ.setdefault("MASTER_PORT", "29731")

import deepspeed
import torch
from deepspeed.ops.adam import DeepSpeedCPUAdam

import child
from model import BETAS, SHAPES, LanguageModel, parameter_groups

# What the table of words fills; a swapped parameter takes a whole buffer, whatever its size.
BUFFER_ELEMS = max(vocabulary * size for vocabulary, _, _, size, _ in SHAPES.values())


def offload_sections(o):
    """The ZeRO section but the stage, by name of --offload. What is not named stays at DeepSpeed's defaults."""
    nvme = {"device": "nvme", "nvme_path": o.nvme_path}
    # Pipelined, three groups are in buffers at a time: one read, one updated, one written. Each has three states and the gradient.
    pipeline = {"pipeline_read": True, "pipeline_write": True, "buffer_count": 12} if o.pipeline else {}
    states = {**nvme, **pipeline}
    buffers = {"buffer_size": BUFFER_ELEMS, "buffer_count": 5}
    return {
        # Parameters and states on disk. With the default max_reuse_distance of 1e9 parameters stay live, each in a buffer, and a
        # run ends with "Not enough buffers 0 for swapping 1". With the default sub_group_size, 1e9, all states are one group.
        "nvme": {"offload_param": {**nvme, **buffers, "max_in_cpu": 0}, "offload_optimizer": states, "sub_group_size": 100_000_000,
                 "stage3_max_reuse_distance": 0},
        # The least memory and time that was found for it: states on disk in small groups; max_in_cpu's default keeps the 16-bit
        # parameters in memory.
        "nvme_lean": {"offload_param": {**nvme, **buffers}, "offload_optimizer": states, "sub_group_size": 20_000_000,
                      "reduce_bucket_size": 20_000_000, "stage3_prefetch_bucket_size": 10_000_000},
        "cpu": {"offload_param": {"device": "cpu"}, "offload_optimizer": {"device": "cpu"}},
    }  # fmt: skip


def configuration(o):
    return {
        "train_micro_batch_size_per_gpu": o.batch_size,
        "bf16": {"enabled": True},
        "gradient_clipping": 0.0,
        "zero_optimization": {"stage": 3, **offload_sections(o)[o.offload]},
        "aio": {"block_size": 1 << 20, "queue_depth": 8, "intra_op_parallelism": 1, "single_submit": False, "overlap_events": True},
    }


def main():
    parser = child.options(__doc__)
    parser.add_argument("--offload", choices=["nvme", "nvme_lean", "cpu"], required=True)
    parser.add_argument("--nvme-path", help="an empty directory")
    parser.add_argument("--pipeline", action="store_true", help="read and write states beside the update; NVMe only")
    o = parser.parse_args()
    if o.pipeline and o.offload == "cpu":
        parser.error("--pipeline needs an NVMe --offload")
    config = configuration(o)
    deepspeed.init_distributed("gloo")
    torch.manual_seed(o.seed)
    with deepspeed.zero.Init(config_dict_or_path=config):
        model = LanguageModel(o.model, torch.bfloat16)
    # The parameters themselves are partitioned and empty by now.
    groups = parameter_groups([(p, len(p.ds_shape)) for p in model.parameters()], o.weight_decay)
    optimizer = DeepSpeedCPUAdam(groups, lr=o.lr, betas=BETAS, adamw_mode=True)
    engine, _, _, _ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)

    def step(tokens, targets):
        loss = engine(tokens, targets)
        engine.backward(loss)
        engine.step()
        return loss.item()

    child.train(o, step, {"deepspeed": deepspeed.__version__}, parameters=sum(p.ds_numel for p in model.parameters()), config=config)


if __name__ == "__main__":
    main()
