"""Options: validation, words, identity."""

from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pytest
from annotated_types import Ge, Gt, Le, Len

from lib.errors import InputError
from lib.options import Options, option


@dataclass(frozen=True, kw_only=True)
class Example(Options):
    data: str = option("set", "folder of images", identity=False)
    flip: bool = option(False, "average with the mirrored image")
    share: Annotated[float, Ge(0), Le(1)] = option(0.5, "share of something")
    count: Annotated[int, Ge(1)] | None = option(None, "number of something")
    scales: Literal["target"] | Annotated[list[Annotated[float, Gt(0)]], Len(1)] = option([1.0], "image scales")
    size: Annotated[list[int], Len(2, 2)] = option([4, 3], "width and height", expected="two sides in pixels")


def test_values_become_plain():
    made = Example(data=Path("a"), share=1, scales=(1, 2.0), size=np.array([8, 6]))
    assert (made.data, made.share, made.scales, made.size) == ("a", 1.0, [1.0, 2.0], [8, 6])
    assert Example().scales is not Example().scales
    with pytest.raises(FrozenInstanceError):
        made.flip = True


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(flip=1), r"flip: 1 \(expected: true or false\)"),
        (dict(share=1.5), r"share: 1.5 \(expected: a number from 0 to 1\)"),
        (dict(share=float("nan")), "share: nan"),
        (dict(share="half"), r"share: 'half' \(expected: a number from 0 to 1\)"),
        (dict(count=True), r"count: True \(expected: a whole number from 1 or null\)"),
        (dict(scales=[]), r"scales: \[\] \(expected: target or a list of 1 or more values, each a number above 0\)"),
        (dict(scales=[0.0]), r"scales: \[0.0\]"),
        (dict(size=[1]), r"size: \[1\] \(expected: two sides in pixels\)"),
        (dict(data=3), r"data: 3 \(expected: text\)"),
    ],
)
def test_a_value_that_is_not_allowed_is_named_with_what_is(given, message):
    with pytest.raises(InputError, match=message):
        Example(**given)


def test_options_are_collected_from_a_notebook():
    made = Example.collect({"flip": True, "share": 0.25, "np": np, "_i1": "cell"})
    assert made == Example(flip=True, share=0.25)


def test_identity_leaves_out_what_results_do_not_depend_on():
    assert list(Example(data="elsewhere").identity()) == ["flip", "share", "count", "scales", "size"]
    assert Example(data="a").identity() == Example(data="b").identity() != Example(flip=True).identity()


def test_fields_explain_themselves():
    assert Example.names()[:2] == ("data", "flip")
    assert Example.default("scales") == [1.0] and Example.sentence("flip") == "average with the mirrored image"


def test_all_values_that_are_not_allowed_are_named_at_once():
    with pytest.raises(InputError) as refused:
        Example(flip=1, share=2, count=10**5000)
    assert [line.split(":")[0] for line in str(refused.value).splitlines()] == ["flip", "share", "count"]


def test_a_long_value_is_shortened():
    with pytest.raises(InputError) as refused:
        Example(share=list(range(9000)))
    assert len(str(refused.value)) < 200
