"""A script for transformers' Trainer that knows nothing of Sterna."""

import os
import signal
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

losses = Path(sys.argv[1])
options = dict(word.split("=", 1) for word in sys.argv[2:])


class Numbers(Dataset):
    def __init__(self, rows: int) -> None:
        generator = torch.Generator().manual_seed(1)
        self.x = torch.randn(rows, 8, generator=generator)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"x": self.x[index], "labels": self.x[index].sum()}


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 32), nn.Dropout(0.3), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        if not self.training:
            time.sleep(float(options.get("eval_s", 0)))
        y = self.layers(x).squeeze(-1)
        return {"loss": nn.functional.mse_loss(y, labels), "logits": y}


class Log(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        time.sleep(float(options.get("step_s", 0)))
        if state.global_step == int(options.get("stop_at", 0)) and "STERNA_STOP_FILE" in os.environ:
            Path(os.environ["STERNA_STOP_FILE"]).write_text("{}")

    def on_log(self, args, state, control, logs=None, **_):
        if "loss" in (logs or {}):
            with losses.open("a") as file:
                file.write(f"{state.global_step} {logs['loss']!r}\n")


set_seed(7)
args = TrainingArguments(
    output_dir=options.get("out", "out"),
    max_steps=int(options.get("steps", 40)),
    per_device_train_batch_size=4,
    gradient_accumulation_steps=int(options.get("accumulate", 1)),
    logging_steps=1,
    save_steps=int(options.get("every", 10)),
    eval_strategy="steps" if "eval_s" in options else "no",
    eval_steps=6,
    dataloader_num_workers=int(options.get("workers", 0)),
    report_to=[],
    disable_tqdm=True,
    use_cpu=True,
    save_total_limit=2,
    **({"enable_jit_checkpoint": True} if "jit" in options else {}),
)
trainer = Trainer(
    model=Model(),
    args=args,
    train_dataset=Numbers(60),
    eval_dataset=Numbers(40),
    callbacks=[Log()],
)
if "ignore" in options:
    signal.signal(signal.SIGTERM, lambda *_: None)
trainer.train(resume_from_checkpoint=True if "resume" in options else None)
trainer.save_model("final")
Path("after").write_text(os.fspath(losses))
