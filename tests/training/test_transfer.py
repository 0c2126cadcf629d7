"""Batches reach the training with little shared memory, and with none."""

import multiprocessing
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch.utils.data import DataLoader

from lib.training import transfer
from lib.training.progress import NOTE, progress_bar


def sample(value: float) -> dict:
    data = SegDataSample(gt_sem_seg=PixelData(data=torch.full((1, 4, 4), int(value))), metainfo={"name": "a"})
    return {"inputs": torch.full((3, 4, 4), value), "data_samples": data}


class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return sample(float(index))


def loaded(free: int, monkeypatch, shared: list) -> list[dict]:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda path: usage(0, 0, free))
    monkeypatch.setattr(transfer, "_said", False)
    batches = []
    for batch in DataLoader(Data(), batch_size=2, num_workers=2, collate_fn=transfer.collate_for_transfer):
        shared += [tensor.is_shared() for tensor in batch["inputs"]]
        batches.append(batch)
    return batches


def test_batches_are_the_same_on_both_ways(monkeypatch, capfd):
    shared: list[bool] = []
    ample = loaded(10**9, monkeypatch, shared)
    assert all(shared) and NOTE not in capfd.readouterr().out
    shared.clear()
    little = loaded(1000, monkeypatch, shared)
    assert not any(shared)
    assert capfd.readouterr().out.count("0.0 MB free") == 1
    for first, second in zip(ample, little, strict=True):
        assert all(map(torch.equal, first["inputs"], second["inputs"]))
        for a, b in zip(first["data_samples"], second["data_samples"], strict=True):
            assert torch.equal(a.gt_sem_seg.data, b.gt_sem_seg.data) and a.metainfo == b.metainfo


def test_all_tensors_of_a_batch_are_counted():
    assert transfer.size(sample(1.0)) == 3 * 16 * 4 + 16 * 8


@pytest.mark.parametrize("workers", [0, 2])
def test_without_semaphores_there_are_no_loader_processes(workers, monkeypatch, capsys):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(multiprocessing, "Semaphore", full)
    loaders = [SimpleNamespace(num_workers=workers, persistent_workers=workers > 0) for _ in range(2)]
    transfer.without_semaphores(SimpleNamespace(train_dataloader=loaders[0], val_dataloader=loaders[1]))
    assert [(x.num_workers, x.persistent_workers) for x in loaders] == [(0, False)] * 2
    assert ("No space left on device" in capsys.readouterr().out) == (workers > 0)


def test_notes_are_shown_and_logged(capsys):
    assert list(progress_bar([f"{NOTE}little memory\n", "more\n"], 5)) == ["little memory\n", "more\n"]
    assert "little memory" in capsys.readouterr().err
