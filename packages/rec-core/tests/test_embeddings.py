"""Item embeddings on disk come back as they were, and only for the data set they were made for."""

import numpy as np
import pytest

from rec_core.artifacts import open_artifact
from rec_core.dataset import write_dataset
from rec_core.embeddings import read_embeddings, write_embeddings
from rec_core.errors import ArtifactError, DataError
from rec_core.testing import planted_clusters
from rec_core.types import ItemEmbeddings

VECTORS = ItemEmbeddings(np.arange(12, dtype=np.float32).reshape(4, 3), {"model": "made by hand", "scft": False})


def test_vectors_and_provenance_come_back(tmp_path):
    written = write_embeddings(tmp_path / "emb", VECTORS, settings={"pooling": "mean"})
    back = read_embeddings(tmp_path / "emb")
    np.testing.assert_array_equal(back.vectors, VECTORS.vectors)
    assert back.provenance == VECTORS.provenance
    assert (written.manifest["n_items"], written.manifest["dim"]) == (4, 3)
    assert written.manifest["vectors_hash"] == back.digest() == VECTORS.digest()


def test_vectors_of_another_data_set_are_refused(tmp_path):
    write_dataset(tmp_path / "data", planted_clusters(30, 24, n_clusters=2))
    data = open_artifact(tmp_path / "data")
    write_embeddings(tmp_path / "emb", VECTORS, inputs=[data.as_input("dataset")])
    read_embeddings(tmp_path / "emb", dataset=data.hash)
    with pytest.raises(ArtifactError, match="vectors of another data set"):
        read_embeddings(tmp_path / "emb", dataset="0" * 64)
    write_embeddings(tmp_path / "anybody's", VECTORS)
    read_embeddings(tmp_path / "anybody's", dataset=data.hash)


def test_another_kind_of_artifact_is_named(tmp_path):
    write_dataset(tmp_path / "data", planted_clusters(30, 24, n_clusters=2))
    with pytest.raises(ArtifactError, match="is a 'dataset' artifact, wanted 'embeddings'"):
        read_embeddings(open_artifact(tmp_path / "data"))


def test_nan_on_disk_is_found_when_it_is_read(tmp_path):
    write_embeddings(tmp_path / "emb", VECTORS)
    vectors = np.load(tmp_path / "emb" / "vectors.npy", mmap_mode="r+")
    vectors[2, 1] = np.nan
    vectors.flush()
    with pytest.raises(ArtifactError, match="changed after it was written"):
        read_embeddings(tmp_path / "emb")
    with pytest.raises(DataError, match="the first is item 2"):
        read_embeddings(open_artifact(tmp_path / "emb", verify=False))


def test_more_arrays_may_lie_beside_the_vectors(tmp_path):
    users = np.arange(6, dtype=np.float32).reshape(2, 3)
    written = write_embeddings(tmp_path / "emb", VECTORS, arrays={"user_vectors": users})
    np.testing.assert_array_equal(written.array("user_vectors"), users)
    assert set(written.manifest["payload"]) == {"vectors.npy", "user_vectors.npy"}
