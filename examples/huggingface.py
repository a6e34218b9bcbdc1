"""A small language model with the Trainer of transformers; it knows nothing of us and moves all the same.

Needs ``pip install "transformers[torch]"``. As a job: ``argv = ["python3", "/opt/jobs/huggingface.py"]``.
"""

import sys

import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 1000


class Counting(Dataset):
    """Rows of 32 numbers that count up by one, from anywhere."""

    def __len__(self) -> int:
        return 4096

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        row = (torch.arange(32) + index) % 64
        return {"input_ids": row, "labels": row}


set_seed(1)
model = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=32, n_embd=64, n_layer=2, n_head=2))
args = TrainingArguments(
    output_dir="out",
    max_steps=STEPS,
    save_steps=100,
    save_total_limit=2,
    logging_steps=10,
    report_to=[],
)
trainer = Trainer(model=model, args=args, train_dataset=Counting())
trainer.train()
trainer.save_model("final")
