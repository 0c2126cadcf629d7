"""Student and teacher around any segmentor of mmseg, and the hook that updates the teacher.

In checkpoints ``state_dict`` holds the teacher under the plain network's names, ``self_training`` the rest.
"""

from __future__ import annotations

from functools import partial

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel, MomentumAnnealingEMA, is_model_wrapper
from mmengine.optim import build_optim_wrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.structures import PixelData
from mmseg.models.segmentors import BaseSegmentor
from mmseg.registry import HOOKS, MODELS
from mmseg.structures import SegDataSample
from torch import Generator, Tensor
from torch.nn import ModuleList

from lib.dataset.classes import IGNORE
from lib.recipes import heads
from lib.training.hooks import iteration_seed
from lib.training.self_training import Settings, augmentations, pseudo_labels

_TEACHER = "teacher.module."


@MODELS.register_module()
class SelfTraining(BaseModel):
    """Trains a student on the source, and on the target with the teacher's pseudo-labels.

    Source: Hoyer et al., "DAFormer", CVPR 2022, and "MIC", CVPR 2023.

    Args:
        segmentor: config of the network, any of mmseg's segmentors.
        alpha: share of its weights that the teacher keeps per iteration.
        warmup_iters: iterations that learn from the source alone.
        settings: fields of :class:`lib.training.self_training.Settings`.
    """

    def __init__(self, segmentor: dict, *, seed: int, alpha: float, warmup_iters: int, settings: dict):
        student: BaseSegmentor = MODELS.build(segmentor)
        super().__init__(data_preprocessor=student.data_preprocessor)
        self.student, self.settings = student, Settings(**settings)
        # With gamma 1 the momentum in iteration t is max(1 - alpha, 1 / (t + 1)).
        self.teacher = MomentumAnnealingEMA(student, momentum=1 - alpha, gamma=1)
        self.seed, self.warmup_iters = seed, warmup_iters
        self.shares = pseudo_labels.ClassShares() if self.settings.align else None

    def train(self, mode: bool = True) -> SelfTraining:
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, inputs: Tensor, data_samples=None, mode: str = "tensor"):
        """Run as mmseg's segmentors do; the teacher answers, except in ``loss`` mode.

        In that mode source and target crops alternate in ``inputs`` ``(2N, 3, H, W)`` and in their samples.
        """
        if mode != "loss":
            return self.teacher(inputs, data_samples, mode=mode)
        iteration = int(self.teacher.steps)
        losses = _named("source", self.student.loss(inputs[0::2], data_samples[0::2]))
        if iteration < self.warmup_iters:
            return losses
        generator = Generator().manual_seed(iteration_seed(self.seed, iteration))
        crops, labels, confident = self._target_crops(inputs, data_samples, generator)
        samples = [
            SegDataSample(metainfo=sample.metainfo, gt_sem_seg=PixelData(data=label[None]))
            for sample, label in zip(data_samples[1::2] * 2, labels, strict=False)
        ]
        target = _named("target", self.student.loss(crops, samples), self.settings.weight * confident)
        return losses | target | {"confident": confident}

    @torch.no_grad()
    def _target_crops(self, inputs: Tensor, samples: list, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return the student's target crops, their pseudo-labels, and the share of confident pixels."""
        settings, pixels, (source, target) = self.settings, self.data_preprocessor, (inputs[0::2], inputs[1::2])
        jitter = partial(
            augmentations.jitter, mean=pixels.mean, std=pixels.std, generator=generator, strength=settings.colour
        )
        labels = torch.cat([sample.gt_sem_seg.data for sample in samples]).long()
        truth, known = labels[0::2], labels[1::2]
        # Open within the image; padding beyond it stays IGNORE.
        for label, sample in zip(known, samples[1::2], strict=True):
            height, width = sample.metainfo["img_shape"][:2]
            inside = label[:height, :width]
            inside[inside == IGNORE] = 0
        prediction = probabilities(self.teacher.module, target)
        if self.shares:
            prediction = self.shares(prediction, pseudo_labels.open_pixels(known), truth)
        label, confident = pseudo_labels.label(prediction, known, settings.threshold)
        crop, crop_label = target, label
        if settings.mix:
            mixed, mixed_label = augmentations.mix_classes((source, truth), (target, label), known, generator)
            chosen = (torch.rand(len(target), generator=generator) < settings.mix).to(target.device)[:, None, None]
            crop, crop_label = torch.where(chosen[:, None], mixed, target), torch.where(chosen, mixed_label, label)
        crops, crop_labels = [jitter(crop)], [crop_label]
        if settings.mask_ratio:
            shape = (len(target), *target.shape[2:])
            mask = augmentations.patch_mask(shape, settings.mask_ratio, settings.mask_block, generator)
            crops.append(jitter(target).masked_fill(mask.to(target.device)[:, None], 0))
            crop_labels.append(label)
        return torch.cat(crops), torch.cat(crop_labels), confident.mean()


def probabilities(network: BaseSegmentor, images: Tensor) -> Tensor:
    """Return ``float (N, classes, H, W)`` of normalised images ``(N, 3, H, W)``, from any kind of head."""
    size = tuple(images.shape[2:])
    logits = network.encode_decode(images, [dict(img_shape=size, pad_shape=size)] * len(images)).float()
    head = network.decode_head[-1] if isinstance(network.decode_head, ModuleList) else network.decode_head
    if heads.gives_scores(head):  # they need not add up to 1
        return logits / logits.sum(1, keepdim=True).clamp(min=1)
    return logits.softmax(1)


def _named(part: str, losses: dict[str, Tensor], weight: float | Tensor = 1.0) -> dict[str, Tensor]:
    """Return the losses under ``part.``, weighted, and their sum as ``part``; accuracies are left out."""
    weighted = {f"{part}.{name}": value * weight for name, value in losses.items() if "loss" in name}
    return weighted | {part: torch.stack([value.detach().mean() for value in weighted.values()]).sum()}


@HOOKS.register_module()
class TeacherHook(Hook):
    """Updates the teacher, and separates the two networks in checkpoints (see the module's text)."""

    def before_train(self, runner) -> None:
        model = _unwrapped(runner.model)
        if model.teacher.steps == 0:  # not resumed
            model.teacher.module.load_state_dict(model.student.state_dict())

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        model = _unwrapped(runner.model)
        model.teacher.update_parameters(model.student)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {k.removeprefix(_TEACHER): v for k, v in state.items() if k.startswith(_TEACHER)}
        checkpoint["self_training"] = {k: v for k, v in state.items() if not k.startswith(_TEACHER)}

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        teacher = {f"{_TEACHER}{k}": v for k, v in checkpoint["state_dict"].items()}
        checkpoint["state_dict"] = teacher | checkpoint.pop("self_training")


def _unwrapped(model) -> SelfTraining:
    return model.module if is_model_wrapper(model) else model


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class StudentOptimWrapperConstructor:
    """Builds the plain network's optimiser; ``paramwise_cfg`` holds its own ``constructor`` and ``paramwise_cfg``."""

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict):
        self.config = optim_wrapper_cfg | paramwise_cfg

    def __call__(self, model):
        return build_optim_wrapper(_unwrapped(model).student, self.config)
