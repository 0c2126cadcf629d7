"""README and documentation: length, links, the example, generated tables, and words."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README, DOCS = ROOT / "README.md", ROOT / "docs"
PAGES = [README, *(ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md")), *sorted(DOCS.rglob("*.md"))]
OLD_WORDS = re.compile(
    r"\b(surroundings?|plates?|bends?|bent|bending)\b|\b(the|its|their|target's) looks\b|\blooks(\.npz| =)|--start\b",
    re.IGNORECASE,
)
"""Words that the glossary replaced; "looks" as a noun only."""


@pytest.fixture(scope="module")
def generate():
    sys.path.insert(0, str(DOCS))
    import generate

    return generate


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_readme_is_short():
    lines = README.read_text().splitlines()
    assert len(lines) <= 170
    assert max(len(line) for line in lines) <= 132


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{link} in {page.name} (written by `make gallery`, if it is in docs/gallery)"
        assert not anchor or anchor in anchors(target), f"{link} in {page.name}"


def test_the_example_runs(sample):
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    names = {}
    exec(example.replace("data/sample", str(sample)), names)
    assert names["straight"].shape == (270, 480, 3) and names["straight"].any()


def test_tables_are_up_to_date(generate):
    for page in generate.pages():
        assert generate.with_tables(page.read_text()) == page.read_text(), f"{page}: run `make tables`"
    used = re.findall(r"<!-- table: (\S+) -->", "".join(page.read_text() for page in generate.pages()))
    assert sorted(used) == sorted(generate.tables.TABLES)


def test_the_chart_shows_the_table_of_readme(generate):
    chart = generate.CHART.read_text()
    for column in generate.tables.SETS:
        for row, seeds in generate.tables.summary_values(column).items():
            assert f"{sum(seeds) / len(seeds):.3f}" in chart, f"{column}, {row}: run `make tables`"


def test_pictures_are_small(generate):
    for path in DOCS.rglob("*"):
        if path.suffix in (".png", ".jpg", ".svg", ".md"):
            assert path.stat().st_size < generate.MAX_BYTES, path


@pytest.mark.parametrize("place", ["README.md", "docs", "docs/gallery", "lib", "notebooks"])
def test_replaced_words_do_not_occur(place):
    folder = ROOT / place
    files = [folder] if folder.is_file() else [p for p in folder.rglob("*") if p.suffix in (".py", ".md", ".ipynb")]
    for path in files:
        if place == "docs" and path.parent.name == "gallery":
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found = OLD_WORDS.search(line)
            assert not found, f"{path}:{number}: {found[0]}"


def test_pictures_of_a_gallery_shrink(generate):
    import io

    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (600, 1600, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "png")
    suffix, small = generate.shrunken(buffer.getvalue(), 600_000)
    assert suffix == ".jpg" and len(small) <= 600_000
    assert Image.open(io.BytesIO(small)).width == generate.MAX_WIDTH
    buffer = io.BytesIO()
    Image.new("RGB", (100, 50), "white").save(buffer, "png")
    assert generate.shrunken(buffer.getvalue(), 10_000)[0] == ".png"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_named_files_exist(page):
    text = page.read_text()
    for path in re.findall(r"`((?:lib|ops_dcnv3|tests|benchmarks|notebooks|docs)/[\w./]+)`", text):
        assert (ROOT / path).exists(), f"{path} in {page.name}"


def test_the_tree_of_readme_names_every_room():
    tree = README.read_text().split("## Where things are")[1].split("```")[1]
    rooms = [p.name for p in (ROOT / "lib").iterdir() if (p / "__init__.py").is_file() or p.suffix == ".py"]
    assert not [room for room in rooms if room not in tree and room != "__init__.py"]
