"""Test-time options of trained networks."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Len

from lib.errors import InputError
from lib.options import Options, option
from lib.prediction.windows import Blend

Share = Annotated[float, Ge(0), Le(1)]


@dataclass(frozen=True, kw_only=True)
class TestTimeOptions(Options):
    """Options of a prediction."""

    __test__ = False  # not a test, although its name begins like one

    sliding: bool | None = option(
        None, "segment overlapping windows of the training's crop size; default: as the recipe says"
    )
    window_blend: Blend = option("constant", "weight of a window's pixels where windows overlap")
    flip: bool = option(False, "average with the prediction for the mirror image")
    scales: Annotated[list[Annotated[float, Gt(0)]], Len(1)] | Literal["target"] = option(
        [1.0], 'average over these multiples of the recipe\'s image size; "target": choose one on target frames'
    )
    rectified_views: Annotated[int, Ge(0)] = option(
        0, "average with predictions for this many virtual pinhole views through the target's lens"
    )
    norm_adaptation: Share = option(0.0, "share of the test images' statistics in the batch norms")
    feature_alignment: Share = option(
        0.0, "share by which feature statistics move from the test images' to the training images'"
    )
    apply_overlay: bool = option(False, "take Background from the overlay mask alone")
    min_region: Annotated[float, Ge(0)] = option(
        0.0, "give regions below this multiple of their class's least area the class around them; 0: keep all"
    )
    crops_per_batch: Annotated[int, Ge(1)] = option(1, "crops that pass the network together", identity=False)
    amp: bool | None = option(None, "mixed precision; default: as in training, on a GPU only")
    compile: bool = option(False, "use torch.compile, which takes a minute or more to start", identity=False)
    device: str | None = option(None, "torch device; default: a GPU if there is one", identity=False)

    def torch_device(self) -> str:
        """Return the device's name; raise InputError if nothing can be computed on it."""
        import torch

        name = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            torch.zeros(1, device=name).item()
        except (RuntimeError, AssertionError, NotImplementedError):  # unknown, not compiled in, without values
            gpus = ", ".join(f"cuda:{i}" for i in range(torch.cuda.device_count()))
            raise InputError(f"device: {name!r} (expected: cpu{gpus and ', or one of '}{gpus})") from None
        return name


DEFAULTS = TestTimeOptions()
