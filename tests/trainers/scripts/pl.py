"""A script for Lightning that knows nothing of Sterna."""

import importlib
import os
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

losses = Path(sys.argv[1])
options = dict(word.split("=", 1) for word in sys.argv[2:])
L = importlib.import_module(options.get("package", "lightning.pytorch"))


class Numbers(Dataset):
    def __init__(self, rows: int) -> None:
        self.x = torch.randn(rows, 8, generator=torch.Generator().manual_seed(1))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.x[index]


def stop(now: bool) -> None:
    if now and "STERNA_STOP_FILE" in os.environ:
        Path(os.environ["STERNA_STOP_FILE"]).write_text("{}")


class Stateful(DataLoader):
    """A loader that goes on in the middle of an epoch: it keeps the epoch's order and its place in it."""

    def __iter__(self):
        if getattr(self, "order", None) is None:
            self.order, self.place = list(RandomSampler(self.dataset)), 0
        while self.place < len(self.order):
            rows = self.order[self.place : self.place + self.batch_size]
            self.place += self.batch_size
            yield torch.stack([self.dataset[row] for row in rows])
        self.order = None

    def state_dict(self):
        return {"order": self.order, "place": getattr(self, "place", 0)}

    def load_state_dict(self, state):
        self.order, self.place = state["order"], state["place"]


class Model(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 32), nn.Dropout(0.3), nn.ReLU(), nn.Linear(32, 1))

    def training_step(self, batch, index):
        time.sleep(float(options.get("step_s", 0)))
        stop(self.global_step + 1 == int(options.get("stop_at", 0)))
        loss = nn.functional.mse_loss(self.layers(batch).squeeze(-1), batch.sum(-1))
        self.log("loss", loss)
        with losses.open("a") as file:
            file.write(f"{self.global_step + 1} {loss.item()!r}\n")
        return loss

    def validation_step(self, batch, index):
        time.sleep(float(options.get("eval_s", 0)))
        Path("validating").touch()
        stop(index == 3 and self.global_step == int(options.get("stop_in_eval_at", 0)))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


L.seed_everything(7)
loader = Stateful if "stateful" in options else DataLoader
train = loader(Numbers(60), batch_size=4, shuffle=True, num_workers=int(options.get("workers", 0)))
callbacks = []
if "every" in options:
    callbacks.append(L.callbacks.ModelCheckpoint(".", every_n_train_steps=int(options["every"])))
if "save_on_exception" in options:
    callbacks.append(L.callbacks.ModelCheckpoint(".", every_n_train_steps=10**6, save_on_exception=True))
if "on_exception" in options:
    callbacks.append(L.callbacks.OnExceptionCheckpoint("."))
trainer = L.Trainer(
    max_steps=int(options.get("steps", 40)),
    accelerator="cpu",
    devices=1,
    logger=False,
    callbacks=callbacks,
    enable_checkpointing=not {"every", "save_on_exception", "on_exception"}.isdisjoint(options),
    enable_progress_bar=False,
    enable_model_summary=False,
    accumulate_grad_batches=int(options.get("accumulate", 1)),
    default_root_dir=".",
)
validation = DataLoader(Numbers(40), batch_size=4) if "eval_s" in options else None
trainer.fit(Model(), train, validation)
trainer.save_checkpoint("final.ckpt")
Path("after").touch()
