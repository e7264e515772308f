"""The tiers that the mix is asked of."""

from pathlib import Path

import tomli_w
from forebay_ops.bench import mix
from forebay_schemas.config import load_config


def test_its_tiers_are_the_known_ones_with_no_model_behind_them(tmp_path: Path) -> None:
    file = tmp_path / "forebay.toml"
    file.write_text(tomli_w.dumps(mix.ladder()))
    asked, known = load_config(file), load_config()
    assert list(asked.tiers) == list(known.tiers) == list(mix.CLAIMED)
    for name, tier in asked.tiers.items():
        model = asked.models[tier.model]
        assert model.backend == "synthetic"
        assert model.price == known.models[known.tiers[name].model].price
