"""Bad checkpoints: refused in plain words without running code of a file, or an older one is taken."""

import pickle
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from lib.errors import InputError
from lib.internimage import InternImage
from lib.internimage.checkpoints.loading import load_weights
from lib.prediction.network import Network
from lib.run import Run
from lib.training.checkpoints import set_damaged_aside
from tests.builders import training_state
from tests.faults.checkpoint_builder import Attack, refused_unrun, stopped_run
from tests.faults.outcome import refused

WEIGHT = "decode_head.conv_seg.weight"


def _written(state, path: Path, **options) -> Path:
    torch.save(state, path, **options)
    return path


def _changed(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def _flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 0x40]) + content[place + 1 :]


def _refused_as_weights(path: Path) -> None:
    refused(load_weights, nn.Linear(1, 1), path, naming=path.name)


# Files that are damaged: 03 refuses them, a training resumes from an older one

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "one byte": lambda whole: whole[:1],
    "four bytes": lambda whole: whole[:4],
    "first 100 bytes": lambda whole: whole[:100],
    "first tenth": lambda whole: whole[: len(whole) // 10],
    "first half": lambda whole: whole[: len(whole) // 2],
    "all but 1000 bytes": lambda whole: whole[:-1000],
    "all but 22 bytes": lambda whole: whole[:-22],
    "all but a byte": lambda whole: whole[:-1],
    "second half": lambda whole: whole[len(whole) // 2 :],
    "without its first byte": lambda whole: whole[1:],
    "a bit in the middle": lambda whole: _flipped(whole, len(whole) // 2),
    "a bit near the end of the weights": lambda whole: _flipped(whole, len(whole) * 9 // 10),
    "a bit in the pickle": lambda whole: _flipped(whole, 2000),
    "zeros in the middle": lambda whole: whole[: len(whole) // 2] + bytes(4096) + whole[len(whole) // 2 + 4096 :],
    "zeros from the middle on": lambda whole: whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2),
    "zeros": lambda whole: bytes(len(whole)),
    "a block missing": lambda whole: whole[: len(whole) // 2] + whole[len(whole) // 2 + 512 :],
    "a web page": lambda whole: b"<html>404</html>",
    "line ends of another system": lambda whole: whole.replace(b"\n", b"\r\n"),
}


def _damaged_for_inference(folder: Path, change: Callable[[bytes], bytes]) -> None:
    run = stopped_run(folder)
    path = run.last_checkpoint()
    _changed(path, change)
    refused(Network, run.config, path, naming=path.name)


def _falls_back(run: Run, newest: str = "iter_2.pth", older: str | None = "iter_1.pth") -> None:
    set_damaged_aside(run)
    assert (run.train / f"{newest}.damaged").exists() and not (run.train / newest).exists()
    found = run.last_checkpoint()
    assert (found and found.name) == older


def _damaged_for_resume(folder: Path, change: Callable[[bytes], bytes]) -> None:
    run = stopped_run(folder)
    _changed(run.train / "iter_2.pth", change)
    _falls_back(run)


def _all_damaged(folder: Path) -> None:
    run = stopped_run(folder)
    for path in run.checkpoints():
        _changed(path, DAMAGES["first half"])
    _falls_back(run, older=None)


# Whole files of other content


def _other_state(folder: Path, change: Callable[[dict], None]) -> None:
    """Resume from a run whose newest checkpoint was changed before it was written."""
    run, state = stopped_run(folder), training_state(2)
    change(state)
    _written(state, run.train / "iter_2.pth")
    _falls_back(run)


def _nan(state: dict) -> None:
    state["state_dict"][WEIGHT][0, 0] = float("nan")


def _infinite_momentum(state: dict) -> None:
    state["optimizer"]["state"][0] = {"exp_avg": torch.tensor([1.0, float("inf")])}


def _short(state: dict) -> None:
    state["state_dict"][WEIGHT] = state["state_dict"][WEIGHT][:5]


def _scalar(state: dict) -> None:
    state["state_dict"][WEIGHT] = 1.0


STATES: dict[str, Callable[[dict], None]] = {
    "NaN in a weight": _nan,
    "infinite momentum": _infinite_momentum,
    "weights missing": lambda state: state["state_dict"].pop(WEIGHT),
    "weights added": lambda state: state["state_dict"].update(more=torch.ones(2)),
    "weights of another shape": _short,
    "a number as weights": _scalar,
    "no optimiser": lambda state: state.pop("optimizer"),
    "no message hub": lambda state: state.pop("message_hub"),
    "no iteration": lambda state: state.pop("meta"),
    "a tensor as weights": lambda state: state.update(state_dict=torch.ones(3)),
    "nothing": lambda state: state.clear(),
}

CONTENTS: dict[str, Callable[[], object]] = {
    "a list": lambda: [1, 2],
    "a tensor": lambda: torch.ones(3),
    "a number": lambda: 1,
    "nothing": lambda: None,
    "text as weights": lambda: {"state_dict": {"a": "b"}},
    "an empty mapping": lambda: {"state_dict": {}},
    "numbers as names": lambda: {1: torch.ones(2)},
    "weights of another network": lambda: {"layer1.weight": torch.ones(2)},
    "weights of another variant": lambda: InternImage(channels=12, depths=[1] * 4, groups=[1, 2, 4, 8]).state_dict(),
    "weights of another shape": lambda: _with(_short),
    "weights of another type": lambda: {"state_dict": {WEIGHT: "text"}},
    "sparse weights": lambda: _with(lambda s: s["state_dict"].update({WEIGHT: torch.eye(3).to_sparse()})),
    "itself": lambda: _circle(),
}


def _with(change: Callable[[dict], None]) -> dict:
    state = training_state(1)
    change(state)
    return state


def _circle() -> dict:
    content: dict = {}
    content["state_dict"] = content
    return content


def _other_content(folder: Path, build: Callable[[], object]) -> None:
    run = stopped_run(folder)
    path = _written(build(), folder / "given.pth")
    refused(Network, run.config, path, naming="given.pth")


# Code in files


def _attack_on_inference(folder: Path, archive: bool) -> None:
    run = stopped_run(folder)
    state = training_state(1) | {"more": Attack(folder)}
    path = _written(state, folder / "given.pth", _use_new_zipfile_serialization=archive)
    refused_unrun(lambda: Network(run.config, path), folder, "would run code")


def _attack_on_start_weights(folder: Path) -> None:
    backbone = InternImage(channels=8, depths=[1] * 4, groups=[1, 2, 4, 8])
    path = _written({"model": Attack(folder)}, folder / "internimage_t_1k_224.pth")
    refused_unrun(lambda: load_weights(backbone, path), folder, "would run code")


def _attack_on_resume(folder: Path, place: str) -> None:
    run, state = stopped_run(folder), training_state(2)
    state[place] = Attack(folder)
    _written(state, run.train / "iter_2.pth")
    refused_unrun(lambda: set_damaged_aside(run), folder, "would run code")


def _earlier_version(folder: Path) -> None:
    """A checkpoint whose message hub holds mmengine's objects, as versions up to 0.2.0 wrote it."""
    from mmengine.logging import HistoryBuffer

    run, state = stopped_run(folder), training_state(2)
    state["message_hub"]["log_scalars"]["loss"] = HistoryBuffer([1.0], [1])
    path = _written(state, run.train / "iter_2.pth")
    refused(set_damaged_aside, run, naming="versions up to 0.2.0 wrote such files")
    assert path.exists()
    Network(run.config, path)  # its weights are data


def _attack_by_plain_pickle(folder: Path) -> None:
    path = folder / "given.pth"
    path.write_bytes(pickle.dumps(Attack(folder)))
    refused_unrun(lambda: load_weights(nn.Linear(1, 1), path), folder, "given.pth")


def _attack_by_getattr(folder: Path) -> None:
    class Reach:
        def __reduce__(self):
            return getattr, (str, "join")

    path = _written({"state_dict": {"a": torch.ones(1)}, "x": Reach()}, folder / "given.pth")
    _refused_as_weights(path)


# Files that are no files, archives that are no checkpoints


def _directory(folder: Path) -> None:
    (folder / "given.pth").mkdir()
    _refused_as_weights(folder / "given.pth")


def _dangling(folder: Path) -> None:
    (folder / "given.pth").symlink_to(folder / "gone.pth")
    _refused_as_weights(folder / "given.pth")


def _other_archive(folder: Path) -> None:
    with zipfile.ZipFile(folder / "given.pth", "w") as archive:
        archive.writestr("readme.txt", "no weights")
    _refused_as_weights(folder / "given.pth")


def _record_missing(folder: Path) -> None:
    run = stopped_run(folder)
    path = run.last_checkpoint()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(folder / "given.pth", "w") as new:
        for name in old.namelist():
            if not name.endswith("data/3"):
                new.writestr(name, old.read(name))
    refused(Network, run.config, folder / "given.pth", naming="given.pth")


def _directory_for_resume(folder: Path) -> None:
    run = stopped_run(folder)
    (run.train / "iter_3.pth").mkdir()
    _falls_back(run, "iter_3.pth", "iter_2.pth")


def _old_format_cut(folder: Path) -> None:
    path = _written(training_state(1)["state_dict"], folder / "given.pth", _use_new_zipfile_serialization=False)
    _changed(path, DAMAGES["first half"])
    _refused_as_weights(path)


def _sound(folder: Path) -> None:
    """Nothing is wrong, and nothing is changed."""
    run = stopped_run(folder)
    before = run.last_checkpoint().read_bytes()
    set_damaged_aside(run)
    assert run.last_checkpoint().name == "iter_2.pth" and run.last_checkpoint().read_bytes() == before
    try:
        Network(run.config, run.last_checkpoint())
    except InputError as error:
        raise AssertionError("a sound checkpoint is refused") from error


CASES: dict[str, Callable[[Path], None]] = {
    **{f"checkpoint of 03: {name}": partial(_damaged_for_inference, change=x) for name, x in DAMAGES.items()},
    **{f"newest checkpoint: {name}": partial(_damaged_for_resume, change=x) for name, x in DAMAGES.items()},
    **{f"newest checkpoint: {name} in it": partial(_other_state, change=x) for name, x in STATES.items()},
    **{f"checkpoint of 03: {name} in it": partial(_other_content, build=x) for name, x in CONTENTS.items()},
    "all checkpoints damaged": _all_damaged,
    "checkpoint of 03: code in an archive": partial(_attack_on_inference, archive=True),
    "checkpoint of 03: code in an old file": partial(_attack_on_inference, archive=False),
    "start weights: code": _attack_on_start_weights,
    **{
        f"newest checkpoint: code in {place}": partial(_attack_on_resume, place=place)
        for place in ("message_hub", "optimizer", "self_training", "meta")
    },
    "newest checkpoint: of an earlier version": _earlier_version,
    "a plain pickle with code": _attack_by_plain_pickle,
    "a pickle that reaches into modules": _attack_by_getattr,
    "a folder as checkpoint": _directory,
    "a folder as newest checkpoint": _directory_for_resume,
    "a link to nothing as checkpoint": _dangling,
    "another archive": _other_archive,
    "an archive without one of its weights": _record_missing,
    "an old file cut in half": _old_format_cut,
    "sound checkpoint and config": _sound,
}
