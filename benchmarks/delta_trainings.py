"""Trains a small transformer with AdamW and saves checkpoints as Hugging Face's Trainer lays them out.

Run by `delta.py` under an interpreter that has torch and safetensors, which Sterna itself never needs.
Below the given folder: CASE/RATE/warm (the checkpoint that travels while training goes on) and CASE/RATE/N
(N steps on), and CASE/base (LoRA: the base model alone). Texts are the documents of this repository, byte
by byte.
"""

import argparse
import copy
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

CONTEXT, BATCH = 32, 4
WARM_RATE = 3e-4


class Lora(nn.Module):
    """A frozen linear layer, and a product of two thin matrices that is trained beside it."""

    def __init__(self, base, rank):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.a = nn.Parameter(torch.randn(rank, base.in_features) / base.in_features**0.5)
        self.b = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x):
        return self.base(x) + x @ self.a.T @ self.b.T


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        heads = [h.view(*h.shape[:2], 4, -1).transpose(1, 2) for h in self.qkv(self.norm1(x)).chunk(3, -1)]
        mixed = (
            nn.functional.scaled_dot_product_attention(*heads, is_causal=True)
            .transpose(1, 2)
            .reshape(x.shape)
        )
        x = x + self.out(mixed)
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class Gpt(nn.Module):
    def __init__(self, width, depth):
        super().__init__()
        self.tokens, self.places = nn.Embedding(256, width), nn.Embedding(CONTEXT, width)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 256)

    def forward(self, x):
        return self.head(self.norm(self.blocks(self.tokens(x) + self.places.weight)))


class Run:
    def __init__(self, model, text):
        self.model, self.text, self.step = model, text, 0
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=WARM_RATE)

    def advance(self, steps):
        for _ in range(steps):
            starts = torch.randint(len(self.text) - CONTEXT - 1, (BATCH,))
            rows = torch.stack([self.text[at : at + CONTEXT + 1] for at in starts])
            logits = self.model(rows[:, :-1])
            loss = nn.functional.cross_entropy(logits.float().reshape(-1, 256), rows[:, 1:].reshape(-1))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.step += 1
        return self

    def at_rate(self, rate):
        """Copy the run, to go on at another learning rate."""
        run = copy.deepcopy(self)
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        return run

    def save(self, folder):
        folder.mkdir(parents=True)
        save_model(self.model, folder)
        torch.save(self.optimizer.state_dict(), folder / "optimizer.pt")
        torch.save({"cpu": torch.get_rng_state()}, folder / "rng_state.pth")
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": self.step}))


def save_model(model, folder):
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")


def with_lora(model, rank):
    model.requires_grad_(False)
    for block in model.blocks:
        for name in ("qkv", "out", "up", "down"):
            setattr(block, name, Lora(getattr(block, name), rank))
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--case", choices=("fp32", "bf16", "lora"), required=True)
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--depth", type=int, required=True)
    parser.add_argument("--warm-up", type=int, required=True)
    parser.add_argument("--rates", type=float, nargs="+", required=True)
    parser.add_argument("--steps", type=int, nargs="+", required=True)
    given = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    documents = sorted(Path(__file__).parents[1].rglob("*.md"))
    text = b"".join(path.read_bytes() for path in documents if ".venv" not in path.parts)
    model = Gpt(given.width, given.depth)
    folder = given.folder / given.case
    if given.case == "bf16":
        model = model.bfloat16()
    if given.case == "lora":
        save_model(model, folder / "base")
        model = with_lora(model, 4)
    run = Run(model, torch.tensor(list(text))).advance(given.warm_up)
    for rate in given.rates:
        branch = run.at_rate(rate)
        branch.save(folder / f"{rate:g}" / "warm")
        for steps in sorted(given.steps):
            branch.advance(steps - (branch.step - run.step)).save(folder / f"{rate:g}" / str(steps))


if __name__ == "__main__":
    main()
