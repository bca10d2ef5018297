"""DeepSpeed ZeRO-3 in one process on the CPU, parameters and optimizer states offloaded to NVMe or to host memory."""

import os

# Before DeepSpeed is imported: it chooses its accelerator then.
os.environ["DS_ACCELERATOR"] = "cpu"
os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", LOCAL_SIZE="1", MASTER_ADDR="127.0.0.1")
os.environ.setdefault("MASTER_PORT", "29731")

import deepspeed
import torch
from deepspeed.ops.adam import DeepSpeedCPUAdam

import child
from model import BETAS, LanguageModel, parameter_groups


def configuration(o):
    def place(**more):
        return {"device": "nvme", "nvme_path": o.nvme_path, **more} if o.offload == "nvme" else {"device": "cpu"}

    zero = {
        "stage": 3,
        "sub_group_size": o.sub_group_size,
        "offload_param": place(buffer_size=o.buffer_elems, buffer_count=o.buffer_count, max_in_cpu=o.max_in_cpu),
        "offload_optimizer": place(),
    }
    for key in ("stage3_prefetch_bucket_size", "stage3_max_live_parameters", "stage3_max_reuse_distance", "reduce_bucket_size"):
        value = getattr(o, key.removeprefix("stage3_"))
        if value is not None:
            zero[key] = value
    return {
        "train_micro_batch_size_per_gpu": o.batch_size,
        "bf16": {"enabled": True},
        "gradient_clipping": 0.0,
        "zero_optimization": zero,
        "aio": {"block_size": 1048576, "queue_depth": 8, "intra_op_parallelism": 1, "single_submit": False, "overlap_events": True},
    }


def main():
    parser = child.options(__doc__)
    parser.add_argument("--offload", choices=["nvme", "cpu"], default="nvme")
    parser.add_argument("--nvme-path", help="an empty directory")
    parser.add_argument("--sub-group-size", type=int, default=int(1e9))
    parser.add_argument("--buffer-elems", type=int, default=int(1e8))
    parser.add_argument("--buffer-count", type=int, default=5)
    parser.add_argument("--max-in-cpu", type=int, default=int(1e9))
    parser.add_argument("--prefetch-bucket-size", type=int)
    parser.add_argument("--max-live-parameters", type=int)
    parser.add_argument("--max-reuse-distance", type=int)
    parser.add_argument("--reduce-bucket-size", type=int)
    o = parser.parse_args()
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
