"""GPT-2's shape in plain torch.nn. Weights are drawn in the order in which `patrickstar train` draws them from the same generator,
so that for a seed every program that is compared begins with the same ones.
"""

import math

import torch
from torch import nn
from torch.nn import functional

# vocabulary, positions, layers, hidden size, heads (patrickstar/models/transformer_config.cc)
SHAPES = {"gpt2-medium": (50257, 1024, 24, 1024, 16), "tiny-gpt2": (211, 64, 3, 48, 4)}
INITIALIZER_STD = 0.02
BETAS = (0.9, 0.95)


def normal(shape, std, dtype):
    # torch.empty(...).normal_() would draw in bf16 under deepspeed.zero.Init, which replaces torch.empty.
    return nn.Parameter(torch.normal(0.0, std, shape).to(dtype))


class Table(nn.Module):
    def __init__(self, rows, size, dtype):
        super().__init__()
        self.weight = normal((rows, size), INITIALIZER_STD, dtype)

    def forward(self, indices):
        return functional.embedding(indices, self.weight)


class Linear(nn.Module):
    """nn.Linear without its own draws at construction."""

    def __init__(self, inward, outward, std, dtype):
        super().__init__()
        self.weight = normal((outward, inward), std, dtype)
        self.bias = nn.Parameter(torch.zeros(outward, dtype=dtype))

    def forward(self, x):
        return functional.linear(x, self.weight, self.bias)


class TiedHead(nn.Module):
    def __init__(self, table):
        super().__init__()
        self.weight = table.weight

    def forward(self, x):
        return functional.linear(x, self.weight)


class Block(nn.Module):
    def __init__(self, layers, size, heads, dtype):
        super().__init__()
        residual_std = INITIALIZER_STD / math.sqrt(2 * layers)
        self.heads = heads
        self.norm1 = nn.LayerNorm(size, dtype=dtype)
        self.qkv = Linear(size, 3 * size, INITIALIZER_STD, dtype)
        self.out = Linear(size, size, residual_std, dtype)
        self.norm2 = nn.LayerNorm(size, dtype=dtype)
        self.up = Linear(size, 4 * size, INITIALIZER_STD, dtype)
        self.down = Linear(4 * size, size, residual_std, dtype)

    def forward(self, x):
        batch, length, size = x.shape
        parts = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, size // self.heads).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, size))
        return x + self.down(functional.gelu(self.up(self.norm2(x)), approximate="tanh"))


class LanguageModel(nn.Module):
    """The mean cross entropy of a batch."""

    def __init__(self, shape, dtype):
        super().__init__()
        vocabulary, positions, layers, size, heads = SHAPES[shape]
        self.words = Table(vocabulary, size, dtype)
        self.places = Table(positions, size, dtype)
        self.blocks = nn.ModuleList(Block(layers, size, heads, dtype) for _ in range(layers))
        self.norm = nn.LayerNorm(size, dtype=dtype)
        self.head = TiedHead(self.words)

    def forward(self, tokens, targets):
        x = self.words(tokens) + self.places(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))
        return functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def parameter_groups(parameters, weight_decay):
    """Matrices decay, vectors do not. `parameters`: pairs of (tensor, number of dimensions)."""
    matrices = [p for p, dimensions in parameters if dimensions > 1]
    vectors = [p for p, dimensions in parameters if dimensions == 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
