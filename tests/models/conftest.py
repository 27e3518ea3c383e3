"""Fixtures of the models' tests."""

import pytest
from support.hugging_face import Saved, network_of


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders with weights, each built once, by architecture."""
    built = {}

    def of(name, **changes):
        key = (name, *changes.items())
        if key not in built:
            folder = tmp_path_factory.mktemp("hf") / name
            built[key] = Saved(str(folder), network_of(name, folder, **changes))
        return built[key]

    return of
