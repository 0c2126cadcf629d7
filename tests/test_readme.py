"""The README's example runs as it stands."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_example_of_the_parts_runs(sample):
    example = next(
        block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "mine(" in block
    )
    names = {}
    exec(example.replace("data/sample", str(sample)), names)
    assert names["straight"].shape == (270, 480, 3) and names["straight"].any()
