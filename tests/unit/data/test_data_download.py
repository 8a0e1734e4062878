import hashlib

import pytest
from data_fakes import write_idx

from certiprune.core.errors import DataError
from certiprune.data import available, fashion_mnist, load, mnist


def test_checksums_are_sha256_of_the_four_files():
    for module in (mnist, fashion_mnist):
        assert len(module.CHECKSUMS) == 4
        assert all(
            len(bytes.fromhex(value)) == hashlib.sha256().digest_size for value in module.CHECKSUMS.values()
        )


def test_what_was_downloaded_is_found_again(tmp_path, own_cache, monkeypatch):
    import pooch

    asked = []

    def retrieve(url, known_hash, fname, path):
        asked.append((url, known_hash))
        write_idx(path, packed=True)
        return str(path / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert len(load("mnist").test) == 10
    assert [(mnist.URL + file, f"sha256:{value}") for file, value in mnist.CHECKSUMS.items()] == asked
    load("mnist")
    assert len(asked) == 4, "the second time nothing is fetched"
    found = {row.name: row for row in available()}["mnist"]
    assert found.found and found.where == str(own_cache / "mnist")


@pytest.mark.parametrize(
    "error", [ConnectionError("no network\nmore"), ValueError("hash does not match"), OSError()]
)
def test_a_failed_download_says_what_to_do(monkeypatch, error):
    import pooch

    def retrieve(*args, **kwargs):
        raise error

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(
        DataError, match=r"train-images-idx3-ubyte.gz could not be downloaded \(.+\); put .* folder"
    ) as e:
        load("mnist")
    assert "\n" not in str(e.value)


def test_a_false_file_in_the_cache_is_refused(own_cache):
    import pooch

    path = own_cache / "mnist" / "train-images-idx3-ubyte.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"false")
    assert not pooch.hashes.hash_matches(path, f"sha256:{mnist.CHECKSUMS[path.name]}")
