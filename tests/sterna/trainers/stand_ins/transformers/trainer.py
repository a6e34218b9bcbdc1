"""See the package."""

import json
import time
from pathlib import Path
from types import SimpleNamespace

from .trainer_utils import get_last_checkpoint


class TrainerCallback:
    def on_train_begin(self, args, state, control, **kwargs): ...
    def on_step_end(self, args, state, control, **kwargs): ...
    def on_prediction_step(self, args, state, control, **kwargs): ...
    def on_log(self, args, state, control, **kwargs): ...
    def on_save(self, args, state, control, **kwargs): ...


class Trainer:
    def __init__(self, *, output_dir, steps, every=0, step_s=0.0, evaluate_s=0.0):
        self.args = SimpleNamespace(output_dir=output_dir, save_only_model=False)
        self.steps, self.every, self.step_s, self.evaluate_s = steps, every, step_s, evaluate_s
        self.model = None
        self.callbacks = []
        self.state = SimpleNamespace(global_step=0)

    def add_callback(self, callback):
        self.callbacks.append(callback)

    def remove_callback(self, callback):
        self.callbacks.remove(callback)

    def _call(self, event, **kwargs):
        for callback in self.callbacks:
            getattr(callback, event)(self.args, self.state, self.control, **kwargs)

    def train(self, resume_from_checkpoint=None, trial=None):
        if resume_from_checkpoint is True:
            resume_from_checkpoint = get_last_checkpoint(self.args.output_dir)
        self.control = SimpleNamespace(should_save=False, should_evaluate=False)
        if resume_from_checkpoint:
            state = json.loads((Path(resume_from_checkpoint) / "trainer_state.json").read_text())
            self.state.global_step = state["global_step"]
        self._call("on_train_begin")
        while self.state.global_step < self.steps:
            time.sleep(self.step_s)
            self.state.global_step += 1
            self.control.should_save = bool(self.every and self.state.global_step % self.every == 0)
            self.control.should_evaluate = self.evaluate_s > 0
            self._call("on_step_end")
            self._call("on_log", logs={"loss": 1.0 / self.state.global_step, "text": "no number", "step": 3})
            if self.control.should_evaluate:
                self._evaluate()
            if self.control.should_save:
                self._save_checkpoint(self.model, trial)
                self._call("on_save")
        return self.state.global_step

    def _evaluate(self):
        Path("evaluating").touch()
        for _ in range(int(self.evaluate_s / 0.01)):
            time.sleep(0.01)
            self._call("on_prediction_step")

    def _save_checkpoint(self, model, trial):
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        folder.mkdir(parents=True)
        (folder / "pytorch_model.bin").write_text("weights")
        if not self.args.save_only_model:
            (folder / "optimizer.pt").write_text("moments")
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": self.state.global_step}))
