"""Commands of ``fisheye`` outside the pipeline."""

from typing import Any

import click

from lib.recipes import compose, datasets, heads

SIZE: dict[str, Any] = {"nargs": 2, "type": click.IntRange(1, 2**15 - 1), "metavar": "WIDTH HEIGHT"}
"""Arguments of an option that is a width and a height in pixels."""


@click.command()
@click.option("--out", required=True, metavar="DIR", help="Folder of the data set.")
@click.option("--source", type=int, default=40, show_default=True, help="Number of source images.")
@click.option("--val", type=int, default=8, show_default=True, help="Number of validation images.")
@click.option("--target", type=int, default=24, show_default=True, help="Number of target frames.")
@click.option("--test", type=int, default=12, show_default=True, help="Number of test images.")
@click.option("--size", **SIZE, default=(480, 270), show_default=True, help="Size of target and test images.")
@click.option("--source-size", **SIZE, help="Size of source images (default: as --size).")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed renders the same files.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier data set.")
def sample(**parameters) -> None:
    """Render the built-in data set."""
    from lib.sample import write

    click.echo(write(**parameters))


@click.command()
@click.option("--data", required=True, metavar="DIR", help="Data set in the competition's layout.")
@click.option("--out", required=True, metavar="DIR", help="Folder of the new data set.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of noise and colours.")
def rehearse(data: str, out: str, seed: int) -> None:
    """Make a data set with known target labels from one without."""
    from lib.tools import rehearsal

    click.echo(rehearsal.summary(rehearsal.rehearse(data, out, seed=seed)))


@click.command()
@click.option("--variant", multiple=True, type=click.Choice(tuple(compose.TRAINING)), help="Only this one; repeatable.")
@click.option("--head", multiple=True, type=click.Choice(heads.HEADS), help="Only this one; repeatable.")
@click.option("--data", multiple=True, type=click.Choice(tuple(datasets.DATA)), help="Only this one; repeatable.")
@click.option("--batch", type=int, default=2, show_default=True, help="Crops per GPU, for the memory estimate.")
def zoo(variant, head, data, batch: int) -> None:
    """List the composed recipes with parameters, multiply-adds and estimated memory."""
    from lib.tools import zoo as tool

    chosen = {"variants": variant, "head_names": head, "data": data}
    click.echo(tool.header(batch))
    for entry in tool.entries(**{name: values for name, values in chosen.items() if values}, batch=batch):
        click.echo(tool.row(entry))


@click.command()
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
def convert(old: str, new: str) -> None:
    """Write the weights of a TRUSTED checkpoint into a file of weights alone; OLD may run code while it is read."""
    from lib.tools.convert import convert as write_weights

    click.echo(f"{new}: {write_weights(old, new)} tensors")


@click.command()
@click.argument("checkpoint")
@click.argument("folder", metavar="DIR")
@click.option("--ema", is_flag=True, help="Use the running average of the weights.")
@click.option("--batch-size", type=int, default=32, show_default=True)
@click.option("--device", help="torch device (default: a GPU if there is one).")
def imagenet(checkpoint: str, folder: str, ema: bool, batch_size: int, device: str | None) -> None:
    """Print the top-1 accuracy of a classifier on a folder with one sub-folder per class."""
    from lib.tools.imagenet import evaluate

    click.echo(evaluate(checkpoint, folder, ema=ema, batch_size=batch_size, device=device))


TOOLS = (sample, rehearse, zoo, convert, imagenet)
"""All commands of this module."""
