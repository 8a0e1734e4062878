import hashlib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from certiprune.core.errors import DataError
from certiprune.data import available, fashion_mnist, load, mnist
from certiprune.data.files import download
from helpers.data_files import write_idx


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


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server of the test's own that serves ``tmp_path``."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as http:
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}/"
        http.shutdown()
        thread.join()


def test_a_download_is_kept_only_with_the_right_checksum(tmp_path, own_cache, server):
    (tmp_path / "labels").write_bytes(b"content")
    right, wrong = hashlib.sha256(b"content").hexdigest(), "0" * 64
    with pytest.raises(DataError, match="labels could not be downloaded"):
        download("toy", server, {"labels": wrong})
    assert not (own_cache / "toy" / "labels").exists()
    download("toy", server, {"labels": right})
    assert (own_cache / "toy" / "labels").read_bytes() == b"content"
    (tmp_path / "labels").unlink()
    download("toy", server, {"labels": right})
    with pytest.raises(DataError, match="other could not be downloaded"):
        download("toy", server, {"other": right})
