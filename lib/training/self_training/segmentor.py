"""Teacher and student around any segmentor of mmseg, and the hook that keeps the teacher up to date.

Importing this module registers them. In checkpoints the network under ``state_dict`` is the teacher, in the plain
network's names: it is what is validated and what inference loads. The student lies beside it, for resuming.
"""

from __future__ import annotations

import torch
from mmengine.dist import get_rank
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
from lib.training.self_training import views
from lib.training.self_training.class_shares import ClassShares

_STUDENT, _TEACHER = "student.", "teacher.module."


@MODELS.register_module()
class SelfTraining(BaseModel):
    """Trains a student on the source, and on the target by its teacher's labels.

    Args:
        segmentor: config of the network, any of mmseg's segmentors.
        seed: of mixing, colours and patches.
        alpha, warmup, threshold, weight, align, mix, colour, mask_ratio, mask_block: see
            :data:`lib.training.self_training.SETTINGS`; ``warmup`` in iterations.

    Source: Hoyer et al., "DAFormer", CVPR 2022, and "MIC", CVPR 2023.
    """

    def __init__(
        self,
        segmentor: dict,
        *,
        seed: int,
        alpha: float,
        warmup: int,
        threshold: float,
        weight: float,
        align: bool,
        mix: float,
        colour: float,
        mask_ratio: float,
        mask_block: int,
    ):
        student: BaseSegmentor = MODELS.build(segmentor)
        super().__init__(data_preprocessor=student.data_preprocessor)
        self.student = student
        # With gamma 1 the momentum in iteration t is max(1 - alpha, 1 / (t + 1)).
        self.teacher = MomentumAnnealingEMA(student, momentum=1 - alpha, gamma=1)
        self.seed, self.warmup, self.threshold, self.weight = seed, warmup, threshold, weight
        self.mix, self.colour, self.mask_ratio, self.mask_block = mix, colour, mask_ratio, mask_block
        self.shares = ClassShares() if align else None

    def train(self, mode: bool = True) -> SelfTraining:
        super().train(mode)
        self.teacher.eval()
        return self

    def init_weights(self) -> None:
        self.student.init_weights()

    def start(self) -> None:
        """Make the teacher a copy of the student, unless it has learned already."""
        if self.teacher.steps == 0:
            self.teacher.module.load_state_dict(self.student.state_dict())

    def forward(self, inputs: Tensor, data_samples=None, mode: str = "tensor"):
        """As mmseg's segmentors; the teacher answers, but in ``loss`` mode.

        In that mode ``inputs`` ``(2N, 3, H, W)`` alternate between source and target crops, and so do their samples.
        """
        if mode == "loss":
            return self._loss(inputs, data_samples)
        return self.teacher(inputs, data_samples, mode=mode)

    def _loss(self, inputs: Tensor, samples: list) -> dict[str, Tensor]:
        steps = int(self.teacher.steps)
        losses = _named("source", self.student.loss(inputs[0::2], samples[0::2]))
        if steps < self.warmup:
            return losses
        generator = Generator().manual_seed(_seed(self.seed, steps))
        crops, labels, sure = self._views(inputs, samples, generator)
        found = self.student.loss(crops, [_sample(s, label) for s, label in zip(samples[1::2] * 2, labels)])
        losses |= _named("target", found, self.weight * sure)
        return losses | {"sure": sure}

    @torch.no_grad()
    def _views(self, inputs: Tensor, samples: list, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """What the student is shown of the target: crops, their labels, and the share of sure pixels."""
        source, target = inputs[0::2], inputs[1::2]
        truth, known = _labels(samples[0::2]), _known(samples[1::2])
        guess = probabilities(self.teacher.module, target)
        if self.shares:
            guess = self.shares(guess, views.is_open(known), truth)
        label, share = views.pseudo_label(guess, known, self.threshold)
        shown, told = target, label
        if self.mix:
            mixed = views.mix((source, truth), (target, label), known, generator)
            chosen = (torch.rand(len(target), generator=generator) < self.mix).to(target.device)[:, None, None]
            shown, told = torch.where(chosen[:, None], mixed[0], target), torch.where(chosen, mixed[1], label)
        crops, labels = [self._recoloured(shown, generator)], [told]
        if self.mask_ratio:
            shape = (len(target), *target.shape[2:])
            away = views.hidden(shape, self.mask_ratio, self.mask_block, generator).to(target.device)
            crops.append(self._recoloured(target, generator).masked_fill(away[:, None], 0))
            labels.append(label)
        return torch.cat(crops), torch.cat(labels), share.mean()

    def _recoloured(self, images: Tensor, generator: Generator) -> Tensor:
        if not self.colour:
            return images
        return views.jitter(images, self.data_preprocessor.mean, self.data_preprocessor.std, generator, self.colour)


def probabilities(network: BaseSegmentor, images: Tensor) -> Tensor:
    """``float (N, classes, H, W)`` of normalised images ``(N, 3, H, W)``, from any kind of head."""
    size = tuple(images.shape[2:])
    found = network.encode_decode(images, [dict(img_shape=size, pad_shape=size)] * len(images)).float()
    head = network.decode_head[-1] if isinstance(network.decode_head, ModuleList) else network.decode_head
    if heads.gives_scores(head):  # they need not add up to 1
        return found / found.sum(1, keepdim=True).clamp(min=1)
    return found.softmax(1)


def _labels(samples: list) -> Tensor:
    """``int64 (N, H, W)``."""
    return torch.cat([sample.gt_sem_seg.data for sample in samples]).long()


def _known(samples: list) -> Tensor:
    """What :func:`lib.training.self_training.views.pseudo_label` takes as known: the label is open where the image is."""
    known = _labels(samples)
    for label, sample in zip(known, samples, strict=True):
        height, width = sample.metainfo["img_shape"][:2]
        inside = label[:height, :width]
        inside[inside == IGNORE] = 0
    return known


def _sample(like: SegDataSample, label: Tensor) -> SegDataSample:
    return SegDataSample(metainfo=like.metainfo, gt_sem_seg=PixelData(data=label[None]))


def _named(part: str, losses: dict[str, Tensor], weight: float | Tensor = 1.0) -> dict[str, Tensor]:
    """Losses under ``part.``, weighted, and their sum as ``part``; accuracies and the like are left out."""
    kept = {f"{part}.{name}": value * weight for name, value in losses.items() if "loss" in name}
    return kept | {part: sum(value.detach().mean() for value in kept.values())}


@HOOKS.register_module()
class TeacherHook(Hook):
    """Lets the teacher follow its student, and keeps the two apart in checkpoints (see the module's text).

    A resumed training draws what an undisturbed one would have drawn.
    """

    def before_train(self, runner) -> None:
        _bare(runner).start()

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        # Dropout and the like then depend on the iteration alone, whether the training was stopped before or not.
        torch.manual_seed(_seed(_bare(runner).seed, runner.iter))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        model = _bare(runner)
        model.teacher.update_parameters(model.student)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {k.removeprefix(_TEACHER): v for k, v in state.items() if k.startswith(_TEACHER)}
        checkpoint["self_training"] = {k: v for k, v in state.items() if not k.startswith(_TEACHER)}

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        teacher = {f"{_TEACHER}{k}": v for k, v in checkpoint["state_dict"].items()}
        checkpoint["state_dict"] = teacher | checkpoint.pop("self_training")


def _seed(seed: int, iteration: int) -> int:
    """One for every iteration and process."""
    return hash((seed, iteration, get_rank())) % 2**63


def _bare(runner) -> SelfTraining:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class StudentOptimWrapperConstructor:
    """The optimiser that the network would have without its teacher: parameters keep their plain names.

    Args:
        optim_wrapper_cfg: of mmengine.
        paramwise_cfg: the network's own ``constructor`` and ``paramwise_cfg``, either of them optional.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict):
        self.config = optim_wrapper_cfg | paramwise_cfg

    def __call__(self, model):
        model = model.module if is_model_wrapper(model) else model
        return build_optim_wrapper(model.student, self.config)
