"""Plain PyTorch: fp32 weights, bf16 autocast, fused AdamW."""

import torch

import child
from model import BETAS, LanguageModel, parameter_groups


def main():
    o = child.options(__doc__).parse_args()
    torch.manual_seed(o.seed)
    model = LanguageModel(o.model, torch.float32)
    groups = parameter_groups([(p, p.dim()) for p in model.parameters()], o.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=o.lr, betas=BETAS, fused=True)

    def step(tokens, targets):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(tokens, targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    child.train(o, step, {}, parameters=sum(p.numel() for p in model.parameters()))


if __name__ == "__main__":
    main()
