"""Checkpoints: everything comes back, an interrupted write loses nothing, a bad file says what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import minigrad as mg
from minigrad import checkpoint
from minigrad.checkpoint import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.host_only("files hold host arrays")


def test_a_nest_of_arrays_and_plain_data_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "c.safetensors"
    wide = np.arange(6.0).reshape(2, 3)
    contents: dict[str, Any] = {
        "model": {"a.b": wide.T, "empty": np.zeros((0, 2), "float32")},
        "list": [np.float32(2.5) * np.ones(()), {"step": 3, "none": None, "big": 2**100}, "text"],
    }
    save_checkpoint(path, contents)
    back = load_checkpoint(path)
    np.testing.assert_array_equal(back["model"]["a.b"], wide.T)
    assert back["model"]["empty"].shape == (0, 2)
    assert back["model"]["empty"].dtype == np.float32
    assert back["list"][0] == 2.5
    assert back["list"][1:] == [{"step": 3, "none": None, "big": 2**100}, "text"]


def test_others_can_read_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    layer = mg.Linear(2, 3)
    save_checkpoint(path, {"model": layer.state_dict()})
    arrays = load_file(path)
    assert sorted(arrays) == ["model.bias", "model.weight"]
    np.testing.assert_array_equal(arrays["model.weight"], layer.weight.numpy())


@pytest.mark.parametrize("moment", ["writing", "moving"])
def test_an_interrupted_write_leaves_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, {"epoch": 1})

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if moment == "writing":
            patch.setattr(checkpoint.os, "fsync", interrupt)
        else:
            patch.setattr(Path, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(path, {"epoch": 2})
    assert load_checkpoint(path) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["c.safetensors"]


def test_what_json_lacks_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, {"epoch": 1})
    with pytest.raises(TypeError, match=r"a checkpoint holds arrays and what JSON has; run\.1 is a set"):
        save_checkpoint(path, {"run": [0, {1, 2}]})
    with pytest.raises(TypeError, match="the keys of a checkpoint are strings; run has the key 0"):
        save_checkpoint(path, {"run": {0: 1}})
    with pytest.raises(ValueError, match=r"two arrays have the place 'model\.w'"):
        save_checkpoint(path, {"model": {"w": np.ones(1)}, "model.w": np.zeros(1)})
    for key in ("$array", "$plugins", "$sha256"):
        with pytest.raises(ValueError, match=rf"the key '\{key}' has a meaning in checkpoints; rename it in run"):
            save_checkpoint(path, {"run": {key: 1}})
    assert load_checkpoint(path) == {"epoch": 1}


@pytest.mark.parametrize("dtype", [">f8", ">i4"])
def test_arrays_in_the_other_byte_order(tmp_path: Path, dtype: str) -> None:
    save_checkpoint(tmp_path / "a", {"a": np.arange(3, dtype=dtype)})
    assert load_checkpoint(tmp_path / "a")["a"].tolist() == [0, 1, 2]


def test_bad_files_say_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    with pytest.raises(mg.CheckpointError, match=r"there is no checkpoint .*c\.safetensors"):
        load_checkpoint(path)
    save_checkpoint(path, {"model": {"w": np.ones(100)}})
    whole = path.read_bytes()
    for damaged in (whole[:-8], whole[:20], b"", b"not a checkpoint at all", whole.replace(b"{", b"[", 1)):
        path.write_bytes(damaged)
        with pytest.raises(mg.CheckpointError, match="is damaged, or no safetensors file"):
            load_checkpoint(path)
    for place in range(len(whole) - 800, len(whole), 97):  # within the array
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(mg.CheckpointError, match="is damaged: its contents have changed since it was written"):
            load_checkpoint(path)
    save_file({"w": np.ones(2)}, path)
    with pytest.raises(mg.CheckpointError, match="was not written by minigrad"):
        load_checkpoint(path)
    save_file({"w": np.ones(2)}, path, metadata={"minigrad": "[]"})
    with pytest.raises(mg.CheckpointError, match="was not written by minigrad"):
        load_checkpoint(path)
    save_file({"w": np.ones(2)}, path, metadata={"minigrad": json.dumps({"a": {"$array": "gone"}})})
    with pytest.raises(mg.CheckpointError, match="was not written by minigrad"):
        load_checkpoint(path)
