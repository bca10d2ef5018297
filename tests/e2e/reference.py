#!/usr/bin/env python3
"""Checks the C++ reference transformer against definitions of GPT-2 and Llama written here with plain PyTorch modules.

    .venv/bin/python tests/e2e/reference.py CASE_DIR

exits 0 with a line of the differences found, 1 with one line that says what is out of tolerance (or missing), 2 on bad usage.

The directory (all .bin files are raw, little-endian, C order, without a header):

    case.json        {"config": {"vocab_size", "hidden_size", "layers", "heads", "kv_heads", "intermediate_size",
                                 "max_positions", "positions": "learned" | "rotary", "norm": "layer" | "rms",
                                 "mlp": "gelu" | "swiglu", "head": "tied" | "untied", "biases": "all" | "none",
                                 "norm_eps", "rope_theta"},
                      "batch", "sequence", "steps",
                      "learning_rate", "beta1", "beta2", "epsilon", "weight_decay"}
    weights/NAME.bin float32, the initial parameters, by the names of patrickstar/models/transformer.h
    tokens.bin       int64 [steps, batch, sequence]
    targets.bin      int64 [steps, batch, sequence]
    logits.bin       float32 [batch, sequence, vocab_size]: of the initial weights on step 0's tokens
    losses.bin       float32 [steps]: before each update
    final/NAME.bin   float32, the parameters after the last update

The first five are the case; logits, losses and final are what the C++ side computed. Every step is forward, mean cross
entropy, backward and one AdamW update (decoupled weight decay on every parameter) in fp32.

Tolerances: logits 1e-5 of the largest logit; losses 1e-5 relative. Final weights are held against the distance that Adam can
travel, learning_rate * steps: 1e-4 of it in root mean square per tensor, and no element further apart than 1e-2 of it. Seen were
5e-7, 1e-7, 3.2e-6 and 1.1e-4; one constant of AdamW that is wrong by 1 % gives 5e-4 or more in root mean square. The epsilon of the
case must be far above the rounding of gradients (1e-4 is): else an update is near learning_rate * sign(gradient) at first, and
where the true gradient is 0, as for the bias of the keys, rounding alone decides its direction.
"""

import json
import pathlib
import sys

import numpy
import torch
from torch import nn

LOGITS_TOLERANCE = 1e-5
LOSS_TOLERANCE = 1e-5
WEIGHTS_RMS_TOLERANCE = 1e-4
WEIGHTS_MAX_TOLERANCE = 1e-2


class CaseError(Exception):
    pass


class RMSNorm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x):
        return self.gamma * x / torch.sqrt((x * x).mean(dim=-1, keepdim=True) + self.eps)


def make_norm(config):
    if config["norm"] == "layer":
        return nn.LayerNorm(config["hidden_size"], eps=config["norm_eps"])
    return RMSNorm(config["hidden_size"], config["norm_eps"])


class SelfAttention(nn.Module):
    """Scores written out: softmax(Q K^T / sqrt(d) + causal mask) V, one query head at a time."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        size, bias = config["hidden_size"], config["biases"] == "all"
        self.d = size // config["heads"]
        kv_size = config["kv_heads"] * self.d
        self.q, self.k, self.v = nn.Linear(size, size, bias), nn.Linear(size, kv_size, bias), nn.Linear(size, kv_size, bias)
        self.o = nn.Linear(size, size, bias)

    def turn(self, x):
        """Rotary positions as a product of complex numbers: pair (i, i + d/2) turned by position * theta^(-2i/d)."""
        half = self.d // 2
        pairs = torch.complex(x[..., :half].contiguous(), x[..., half:].contiguous())
        frequency = self.config["rope_theta"] ** (-2.0 * torch.arange(half, dtype=torch.float64) / self.d)
        angle = torch.arange(x.shape[1], dtype=torch.float64)[:, None] * frequency[None, :]
        turned = pairs * torch.polar(torch.ones_like(angle), angle).to(torch.complex64)
        return torch.cat([turned.real, turned.imag], dim=-1)

    def forward(self, x):
        group = self.config["heads"] // self.config["kv_heads"]
        length = x.shape[1]
        hidden_future = torch.full((length, length), float("-inf")).triu(1)
        q, k, v = self.q(x), self.k(x), self.v(x)
        mixed = []
        for head in range(self.config["heads"]):
            mine = slice(head * self.d, (head + 1) * self.d)
            shared = slice(head // group * self.d, (head // group + 1) * self.d)
            a, b = q[..., mine], k[..., shared]
            if self.config["positions"] == "rotary":
                a, b = self.turn(a), self.turn(b)
            scores = a @ b.transpose(1, 2) / self.d**0.5 + hidden_future
            mixed.append(scores.softmax(dim=-1) @ v[..., shared])
        return self.o(torch.cat(mixed, dim=-1))


class FeedForward(nn.Module):
    def __init__(self, config):
        super().__init__()
        size, inner, bias = config["hidden_size"], config["intermediate_size"], config["biases"] == "all"
        self.inward = nn.Linear(size, inner, bias)
        self.gating = nn.Linear(size, inner, bias) if config["mlp"] == "swiglu" else None
        self.outward = nn.Linear(inner, size, bias)

    def forward(self, x):
        if self.gating is not None:
            g = self.gating(x)
            return self.outward(g * torch.sigmoid(g) * self.inward(x))
        h = self.inward(x)
        return self.outward(0.5 * h * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (h + 0.044715 * h**3))))


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.norm1, self.attention = make_norm(config), SelfAttention(config)
        self.norm2, self.feed_forward = make_norm(config), FeedForward(config)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


class LanguageModel(nn.Module):
    def __init__(self, config):
        super().__init__()
        vocab, size = config["vocab_size"], config["hidden_size"]
        self.words = nn.Embedding(vocab, size)
        self.places = nn.Embedding(config["max_positions"], size) if config["positions"] == "learned" else None
        self.layers = nn.ModuleList(Layer(config) for _ in range(config["layers"]))
        self.norm = make_norm(config)
        self.output = nn.Linear(size, vocab, bias=False)
        if config["head"] == "tied":
            self.output.weight = self.words.weight

    def forward(self, tokens):
        x = self.words(tokens)
        if self.places is not None:
            x = x + self.places(torch.arange(tokens.shape[1]))
        for layer in self.layers:
            x = layer(x)
        return self.output(self.norm(x))


def named_weights(model, config):
    """The file name of each parameter and the parameters here that it is made of (joined along dimension 0)."""
    yield "embedding.tokens", [model.words.weight]
    if model.places is not None:
        yield "embedding.positions", [model.places.weight]

    def norm(name, module):
        if isinstance(module, RMSNorm):
            yield f"{name}.weight", [module.gamma]
        else:
            yield f"{name}.weight", [module.weight]
            yield f"{name}.bias", [module.bias]

    def linear(name, *modules):
        yield f"{name}.weight", [m.weight for m in modules]
        if config["biases"] == "all":
            yield f"{name}.bias", [m.bias for m in modules]

    for i, layer in enumerate(model.layers):
        at = f"blocks.{i}"
        yield from norm(f"{at}.attention_norm", layer.norm1)
        yield from linear(f"{at}.attention.qkv", layer.attention.q, layer.attention.k, layer.attention.v)
        yield from linear(f"{at}.attention.out", layer.attention.o)
        yield from norm(f"{at}.mlp_norm", layer.norm2)
        if layer.feed_forward.gating is not None:
            yield from linear(f"{at}.mlp.gate", layer.feed_forward.gating)
        yield from linear(f"{at}.mlp.up", layer.feed_forward.inward)
        yield from linear(f"{at}.mlp.down", layer.feed_forward.outward)
    yield from norm("final.norm", model.norm)
    if config["head"] == "untied":
        yield "final.head.weight", [model.output.weight]


def read(path, kind, shape):
    try:
        values = numpy.fromfile(path, dtype=kind)
    except OSError as error:
        raise CaseError(f"cannot read {path}: {error.strerror}") from error
    count = int(numpy.prod(shape))
    if values.size != count:
        raise CaseError(f"{path} holds {values.size} values of {kind}, expected {count} for shape {list(shape)}")
    return torch.from_numpy(values.reshape(shape))


def read_weight(folder, name, parts):
    rows = sum(p.shape[0] for p in parts)
    return read(folder / f"{name}.bin", "<f4", (rows, *parts[0].shape[1:]))


def check(what, difference, tolerance):
    if not difference <= tolerance:  # not a number is out of tolerance too
        raise CaseError(f"{what} differ by {difference:.3g}, tolerance {tolerance:g}")
    return difference


def check_case(case_dir):
    try:
        case = json.loads((case_dir / "case.json").read_text())
    except (OSError, ValueError) as error:
        raise CaseError(f"cannot read {case_dir / 'case.json'}: {error}") from error
    config = case["config"]
    steps, batch, sequence = case["steps"], case["batch"], case["sequence"]
    tokens = read(case_dir / "tokens.bin", "<i8", (steps, batch, sequence))
    targets = read(case_dir / "targets.bin", "<i8", (steps, batch, sequence))

    model = LanguageModel(config)
    names = list(named_weights(model, config))
    known = {name for name, _ in names}
    for folder in ("weights", "final"):
        found = {path.name.removesuffix(".bin") for path in (case_dir / folder).glob("*.bin")}
        if found != known:
            raise CaseError(f"{folder}/: missing {sorted(known - found)}, unexpected {sorted(found - known)}")
    if {id(p) for p in model.parameters()} != {id(p) for _, parts in names for p in parts}:
        raise CaseError("a parameter of the reference has no file: fix named_weights")
    with torch.no_grad():
        for name, parts in names:
            whole = read_weight(case_dir / "weights", name, parts)
            for part, values in zip(parts, whole.split([p.shape[0] for p in parts])):
                part.copy_(values)

    optimizer = torch.optim.AdamW(model.parameters(), lr=case["learning_rate"], betas=(case["beta1"], case["beta2"]),
                                  eps=case["epsilon"], weight_decay=case["weight_decay"])
    theirs = read(case_dir / "logits.bin", "<f4", (batch, sequence, config["vocab_size"]))
    their_losses = read(case_dir / "losses.bin", "<f4", (steps,))
    worst_loss = 0.0
    for step in range(steps):
        logits = model(tokens[step])
        if step == 0:
            ours = logits.detach()
            worst_logit = check("logits (relative to the largest)", ((ours - theirs).abs().max() / ours.abs().max()).item(),
                                LOGITS_TOLERANCE)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets[step].flatten())
        relative = abs(loss.item() - their_losses[step].item()) / abs(loss.item())
        worst_loss = max(worst_loss, check(f"losses of step {step} (relative)", relative, LOSS_TOLERANCE))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    travelled = case["learning_rate"] * steps
    worst_rms = worst_max = 0.0
    for name, parts in names:
        whole = read_weight(case_dir / "final", name, parts)
        for part, values in zip(parts, whole.split([p.shape[0] for p in parts])):
            apart = (part.detach() - values) / travelled
            worst_max = max(worst_max, check(f"final weights of {name} (largest, in learning_rate * steps)",
                                             apart.abs().max().item(), WEIGHTS_MAX_TOLERANCE))
            worst_rms = max(worst_rms, check(f"final weights of {name} (rms, in learning_rate * steps)",
                                             apart.square().mean().sqrt().item(), WEIGHTS_RMS_TOLERANCE))
    return (f"ok: logits {worst_logit:.2g}, losses {worst_loss:.2g}, final weights {worst_rms:.2g} rms and {worst_max:.2g} at most "
            f"of learning_rate * {steps} steps")


def main():
    if len(sys.argv) != 2:
        print("usage: reference.py CASE_DIR (see the top of this file)", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    try:
        print(f"[reference] {check_case(pathlib.Path(sys.argv[1]))}")
    except CaseError as error:
        print(f"[reference] {error}", file=sys.stderr)
        return 1
    except KeyError as error:
        print(f"[reference] case.json lacks {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
