"""Kills of each stage at every file event and at random moments; resumed, it ends with an undisturbed one's files.

A parent imports everything and forks a child per run, so that a kill and its resumption take a second. Stage 02 trains
in that child instead of a process of its own.
"""

import gc
import random
import re
import shutil
import time
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path

from lib.files import digest, digest_of, read_json, read_yaml, write_json
from tests.faults.kills import events, killed, killed_after
from tests.faults.record import Record

LEAST = 150
"""Kills per stage; random moments fill up what file events do not reach."""
_SIZES = dict(source=4, val=1, target=4, test=4, size=(96, 54))
_RECIPE = {"scale": (96, 54), "crop_size": (48, 80), "num_workers": 0, "val_interval": 2}
_ADAPTATION = {"self_training.warmup": 0.25, "self_training.threshold": 0.1, "self_training.mask_ratio": 0.5}
_LOGS = re.compile(r"\d{8}_\d{6}|train\.log|curves\.png|last_checkpoint|(digests|checked)\.json")
"""Files of a run whose content holds times; the curves show what a kill may log twice."""


def augment_stage(out: Path, data: Path) -> None:
    from lib.stages.augment import AugmentOptions, augment

    augment(AugmentOptions(data=data, out=out))


def train_stage(out: Path, data: Path, self_training: bool = False, max_iters: int = 4, **more) -> None:
    import lib.stages.train as stage
    from lib.training import worker

    stage.launch = lambda run, *_: worker.work(str(run.config))
    options = _RECIPE | {"model.decode_head.dropout_ratio": 0.1} | (_ADAPTATION if self_training else {})
    shared = dict(max_iters=max_iters, batch_size=2, options=options, self_training=self_training)
    stage.train(stage.TrainOptions(out=out, **shared | more))


def infer_stage(out: Path, data: Path) -> None:
    from lib.stages.infer import InferOptions, infer

    infer(InferOptions(data=data, out=out))


def submit_stage(out: Path, data: Path) -> None:
    from lib.stages.submit import SubmitOptions, submit

    submit(SubmitOptions(data=data, out=out, submission_size=_SIZES["size"]))


STAGES: dict[str, tuple[Callable[..., None], tuple[str, ...]]] = {
    "augment": (augment_stage, ()),
    "train": (train_stage, ("augment",)),
    "self-training": (partial(train_stage, self_training=True), ("augment",)),
    "infer": (infer_stage, ("augment", "train")),
    "submit": (submit_stage, ("augment", "train", "infer")),
}
"""Name of a stage to its work and the stages before it."""


def fingerprint(run: Path) -> dict[str, str]:
    """Return each file of a run folder with the digest of its content, without times."""
    found = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if path.is_dir() or any(_LOGS.fullmatch(part) for part in path.relative_to(run).parts):
            continue
        if name == "run.yaml":
            entries = read_yaml(path)
            results = {s: {k: v for k, v in e["results"].items() if k != "digest"} for s, e in entries.items()}
            found[name] = digest_of({s: [e["parameters"], e["inputs"], results[s]] for s, e in entries.items()})
        else:
            found[name] = _weights(path) if path.suffix == ".pth" else digest(path)
    return found


def _weights(path: Path) -> str:
    """Return the digest of a checkpoint's networks and its optimiser."""
    import torch

    content = torch.load(path, map_location="cpu", weights_only=True)
    parts = ("state_dict", "self_training", "optimizer", "param_schedulers")

    def plain(value: object) -> object:
        if isinstance(value, torch.Tensor):
            return [str(value.dtype), list(value.shape), sha256(value.contiguous().numpy().tobytes()).hexdigest()]
        if isinstance(value, dict):
            return {str(key): plain(v) for key, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, list | tuple) else value

    return digest_of({part: plain(content[part]) for part in parts if part in content})


def forked_fingerprint(run: Path, note: Path) -> dict[str, str]:
    """Return the fingerprint, computed in a process of its own: torch may start threads."""
    events(lambda: write_json(note, fingerprint(run)))
    return read_json(note)


class Place:
    """A stage, the run folder it begins from, and the files that it makes when nothing disturbs it."""

    def __init__(self, stage: str, folder: Path):
        self.work, before = STAGES[stage]
        self.folder, self.data, self.before = folder, folder / "data", folder / "before"
        self.out, self._note = folder / "run", folder / "fingerprint.json"
        shutil.rmtree(folder, ignore_errors=True)
        events(self._render)
        self.before.mkdir()
        for name in before:
            events(partial(STAGES[name][0], self.before, self.data))
        self.reset()
        start = time.perf_counter()
        self.events = events(self.run)
        self.seconds = time.perf_counter() - start
        self.right = forked_fingerprint(self.out, self._note)

    def _render(self) -> None:
        from lib.sample import write

        write(self.data, **_SIZES)

    def run(self) -> None:
        """Run the stage, or resume it."""
        self.work(self.out, self.data)

    def reset(self) -> None:
        """Return to the run folder that the stage begins from."""
        shutil.rmtree(self.out, ignore_errors=True)
        shutil.copytree(self.before, self.out)

    def resume(self) -> str:
        """Resume the stage; return what is wrong: blocked, or files that differ."""
        try:
            events(self.run)
        except RuntimeError as error:
            return f"blocked: {str(error).strip().splitlines()[-1]}"
        found = forked_fingerprint(self.out, self._note)
        different = sorted(name for name in found | self.right if found.get(name) != self.right.get(name))
        return f"different: {', '.join(different[:5])}" if different else ""


def run(record: Record, folder: Path, stage: str, least: int = LEAST) -> None:
    """Kill a stage at every file event, then twice at random moments of a run until ``least`` kills are reached."""
    import_all()
    place = Place(stage, folder)
    names = [f"event {at}" for at in range(1, place.events + 1)]
    rng, number = random.Random(stage), 0
    rng.shuffle(names)  # a run without much time sees all kinds of events
    for name in record.todo(names):
        place.reset()
        if killed(place.run, int(name.split()[1])):
            record.add(name, place.resume())
    while record.count < least and time.time() < record.until:
        number += 1
        moments = [rng.uniform(0, place.seconds) for _ in range(2)]
        if (name := f"random {number}") in record.items:
            continue
        place.reset()
        if kills := sum(killed_after(place.run, seconds) for seconds in moments):
            record.add(name, place.resume(), kills)
    record.finish(names if record.count >= least else ["more kills"])


def import_all() -> None:
    """Import what children would each import anew; nothing may run here that starts threads."""
    import mmseg.models  # noqa: F401
    import torch._dynamo
    import torch.utils.tensorboard  # noqa: F401
    import yapf.yapflib.yapf_api as layout

    import lib.internimage
    import lib.prediction.predictor
    import lib.stages.augment
    import lib.stages.infer
    import lib.stages.submit
    import lib.stages.train
    import lib.training.data
    import lib.training.hooks
    import lib.training.metric
    import lib.training.self_training.pairs
    import lib.training.self_training.teacher  # noqa: F401

    layout.FormatCode = lambda text, **_: (text, True)  # of logged configs, which takes half of a short training
    gc.freeze()
