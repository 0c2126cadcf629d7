import json

import pytest

from lib import recipes
from lib.errors import InputError
from lib.recipes.config_file import config_of, read_config, write_config
from lib.training.config import build_config


@pytest.mark.parametrize("recipe", [*recipes.names(), "segformer_internimage_b_512x1024_80k"])
def test_a_config_is_read_as_it_was_written(recipe, tmp_path):
    cfg = build_config(recipe, tmp_path, options={"ema": 0.1, "accumulate": 2})
    write_config(cfg, tmp_path / "config.json")
    found = read_config(tmp_path / "config.json")
    assert found.to_dict() == cfg.to_dict()
    assert isinstance(found.crop_size, tuple) and isinstance(found.model.backbone.depths, list)
    assert repr(found.to_dict()) == repr(cfg.to_dict()), "lists and tuples, whole numbers and fractions"


def test_the_file_is_plain_json(tmp_path):
    write_config(recipes.load("demo"), tmp_path / "config.json")
    assert json.loads((tmp_path / "config.json").read_text())["model"]["type"] == "EncoderDecoder"


def test_a_config_of_an_earlier_version_is_not_run(tmp_path):
    (tmp_path / "config.py").write_text("raise SystemExit")
    with pytest.raises(InputError, match=r"config.json: no such file, and config.py .* run 02_train again"):
        read_config(tmp_path / "config.json")


def test_the_config_beside_a_checkpoint_counts(tmp_path):
    default, checkpoint = tmp_path / "train" / "config.json", tmp_path / "other" / "iter_1.pth"
    checkpoint.parent.mkdir()
    assert config_of(checkpoint, default) == default
    for name in ("config.py", "config.json"):
        (checkpoint.parent / name).touch()
        assert config_of(checkpoint, default) == checkpoint.with_name("config.json")
