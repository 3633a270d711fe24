"""The image sets on disk: official layouts, damage, and fetching them from a server on this machine."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import struct
import tarfile
import threading

import numpy as np
import pytest
import torch

from compress.core.errors import RecipeError
from compress.core.files import data_folder
from compress.core.registries import TASKS
from compress.tasks import cifar10, get_task
from compress.tasks import fashion_mnist as fashion
from compress.tasks.image_files import fetch
from compress.tasks.task_registry import outlined_task
from evaluate.core.errors import DataError, MachineError

RECORDS = 40
CIFAR_FILES = (*cifar10.TRAIN_FILES, cifar10.TEST_FILE)


def cifar_file(seed):
    draw = np.random.default_rng(seed)
    records = draw.integers(0, 256, (RECORDS, 3073), dtype=np.uint8)
    records[:, 0] = np.arange(RECORDS) % 10
    return records.tobytes()


@pytest.fixture
def data(tmp_path, monkeypatch):
    """An empty data folder, tiny files, and no way out of this machine."""
    monkeypatch.setenv("LEANFIT_DATA", str(tmp_path))
    monkeypatch.setattr(cifar10, "RECORDS", RECORDS)
    monkeypatch.setattr(cifar10, "URL", "http://127.0.0.1:9/cifar-10-binary.tar.gz")
    monkeypatch.setattr(fashion, "URL", "http://127.0.0.1:9/")
    return tmp_path


@pytest.fixture
def cifar(data):
    folder = data / cifar10.FOLDER
    folder.mkdir()
    for index, name in enumerate(CIFAR_FILES):
        (folder / name).write_bytes(cifar_file(index))
    return folder


@pytest.fixture
def fashion_files(data):
    folder = data / fashion.FOLDER
    folder.mkdir()
    for part, n in (("train", 100), ("t10k", 50)):
        images = np.random.default_rng(n).integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = (np.arange(n) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            content = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()
            (folder / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(content))
    return folder


def test_data_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("LEANFIT_DATA", str(tmp_path))
    assert data_folder() == tmp_path
    monkeypatch.delenv("LEANFIT_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert data_folder() == tmp_path / "c" / "leanfit"


def test_cifar10_reads_the_binary_layout(cifar):
    task = get_task("cifar10", normalize="none")
    assert [len(s) for s in task.splits().values()] == [180, 20, 40]
    assert torch.bincount(task.validation.targets).tolist() == [2] * 10
    raw = np.frombuffer((cifar / cifar10.TEST_FILE).read_bytes(), np.uint8).reshape(RECORDS, 3073)
    seen, targets = next(task.test.batches(RECORDS))
    np.testing.assert_array_equal(seen["image"].numpy().reshape(RECORDS, -1), raw[:, 1:])
    assert seen["image"].dtype == torch.float32 and targets.tolist() == raw[:, 0].tolist()


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("cifar10", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    ],
)
def test_cifar10_normalizes_as_named(cifar, name, mean, std):
    plain = get_task("cifar10", normalize="none").example(3)["image"] / 255
    expected = (plain - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(get_task("cifar10", normalize=name).example(3)["image"], expected)


def test_cifar10_limits_and_fingerprints(cifar):
    task = get_task("cifar10", train_limit=30, validation_limit=10, test_limit=20)
    assert [len(s) for s in task.splits().values()] == [30, 10, 20]
    prints = {get_task("cifar10", **args).fingerprint() for args in ({}, {}, {"normalize": "none"}, {"split_seed": 1})}
    assert len(prints) == 3


@pytest.mark.parametrize("name", [name for name, found in TASKS.all().items() if found.facts["outline"]])
def test_an_outline_is_like_its_task_and_needs_no_data(name, data, request):
    outline = outlined_task(name)
    assert [p for p in data.rglob("*") if p.is_file()] == []
    for files in ("cifar", "fashion_files"):
        request.getfixturevalue(files)
    real = get_task(name)
    seen, wanted = ({n: (t.dtype, t.shape[1:]) for n, t in made.example().items()} for made in (outline, real))
    assert seen == wanted
    for part in ("name", "classes", "loss", "metric", "output", "heads"):
        assert getattr(outline, part) == getattr(real, part)
    with pytest.raises(RecipeError, match="no_such"):
        outlined_task(name, no_such=1)


def test_a_task_without_an_outline_is_made_itself(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,label\n" + "".join(f"{n},{n % 3},{n % 2}\n" for n in range(40)))
    assert len(outlined_task("csv", path=str(tmp_path / "t.csv")).train) == 28


def test_missing_data_says_folder_layout_and_variable(data):
    for name, file in (("cifar10", "data_batch_1.bin"), ("fashion_mnist", "train-images-idx3-ubyte.gz")):
        with pytest.raises(DataError) as caught:
            get_task(name)
        message = str(caught.value)
        assert all(part in message for part in (str(data), file, "LEANFIT_DATA", "cannot be fetched"))
    assert [p for p in data.rglob("*") if p.is_file()] == []


def test_damaged_cifar10_is_refused(cifar):
    path = cifar / "data_batch_3.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    with pytest.raises(DataError, match=rf"data_batch_3.bin: {RECORDS * 3073 - 7} bytes, expected {RECORDS * 3073}"):
        get_task("cifar10")
    path.write_bytes(b"\x0b" + whole[1:])
    with pytest.raises(DataError, match=r"data_batch_3.bin: class ids run from 0 to 11"):
        get_task("cifar10")
    path.unlink()
    with pytest.raises(DataError, match=r"data_batch_3.bin missing"):
        get_task("cifar10")


def test_fashion_mnist_reads_the_idx_files(fashion_files):
    task = get_task("fashion_mnist")
    assert [len(s) for s in task.splits().values()] == [90, 10, 50]
    assert task.example()["image"].shape == (1, 1, 28, 28)
    content = gzip.decompress((fashion_files / "t10k-images-idx3-ubyte.gz").read_bytes())
    pixel = np.frombuffer(content, np.uint8, offset=16).reshape(-1, 28, 28)[7, 3, 5]
    seen = next(task.test.batches(50))[0]["image"][7, 0, 3, 5]
    assert float(seen) == pytest.approx((pixel / 255 - 0.2860) / 0.3530, abs=1e-5)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda content: gzip.compress(content)[:-30], "not a whole gzip file"),
        (lambda content: b"nothing like gzip", "not a whole gzip file"),
        (lambda content: gzip.compress(content[:-5]), "values for shape"),
        (lambda content: gzip.compress(b"\0\0\x0d\x03" + content[4:]), "not an idx file"),
        (lambda content: gzip.compress(b""), "not an idx file"),
    ],
)
def test_damaged_fashion_mnist_is_refused(fashion_files, damage, words):
    path = fashion_files / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(gzip.decompress(path.read_bytes())))
    with pytest.raises(DataError, match=words) as caught:
        get_task("fashion_mnist")
    assert str(path) in str(caught.value)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        content, promised = self.server.files.get(self.path, (None, 0))
        self.send_response(200 if content is not None else 404)
        self.send_header("Content-Length", str(promised))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    """A local web server: set .files[path] = (content, promised length)."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        made.files = {}
        made.url = f"http://127.0.0.1:{made.server_port}"
        thread = threading.Thread(target=made.serve_forever, args=(0.02,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def md5(content):
    return hashlib.md5(content).hexdigest()


def test_fetch_writes_a_good_file_and_reports(server, tmp_path):
    content = bytes(range(256)) * 3000
    server.files["/file.bin"] = (content, len(content))
    seen = []
    target = tmp_path / "deep" / "file.bin"
    fetch(f"{server.url}/file.bin", md5(content), target, advice="", status=lambda *args: seen.append(args))
    assert target.read_bytes() == content
    assert seen[-1] == ("downloading file.bin", len(content), len(content)) and len(seen) > 1


def test_fetch_leaves_nothing_behind_when_it_fails(server, tmp_path):
    content = b"x" * 5000
    server.files["/bad.bin"] = (content, len(content))
    server.files["/cut.bin"] = (content, 9000)
    target = tmp_path / "target.bin"
    for path, words in (("bad", "expected 0000"), ("cut", "5000 of 9000|IncompleteRead"), ("none", "404")):
        with pytest.raises(DataError, match=words) as caught:
            fetch(f"{server.url}/{path}.bin", "0000", target, advice="Put it there.")
        assert str(caught.value).endswith("Put it there.")
        assert list(tmp_path.iterdir()) == []


def test_fetch_names_a_folder_that_cannot_be_written(server, tmp_path):
    server.files["/file.bin"] = (b"x", 1)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MachineError, match="LEANFIT_DATA"):
        fetch(f"{server.url}/file.bin", md5(b"x"), tmp_path / "file" / "target.bin", advice="")


def cifar_archive():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for index, name in enumerate(CIFAR_FILES):
            info = tarfile.TarInfo(f"{cifar10.FOLDER}/{name}")
            info.size = RECORDS * 3073
            tar.addfile(info, io.BytesIO(cifar_file(index)))
    return buffer.getvalue()


def test_cifar10_is_fetched_unpacked_and_read(server, data, monkeypatch):
    archive = cifar_archive()
    server.files["/cifar-10-binary.tar.gz"] = (archive, len(archive))
    monkeypatch.setattr(cifar10, "URL", f"{server.url}/cifar-10-binary.tar.gz")
    monkeypatch.setattr(cifar10, "MD5", md5(archive))
    assert len(get_task("cifar10").test) == RECORDS
    assert {p.name for p in data.iterdir()} == {cifar10.FOLDER}
    server.files.clear()
    assert len(get_task("cifar10").test) == RECORDS


def test_fashion_mnist_fetches_what_is_missing(server, fashion_files, monkeypatch):
    name = "t10k-labels-idx1-ubyte.gz"
    content = (fashion_files / name).read_bytes()
    (fashion_files / name).unlink()
    server.files[f"/{name}"] = (content, len(content))
    monkeypatch.setattr(fashion, "URL", f"{server.url}/")
    monkeypatch.setattr(fashion, "FILES", {**fashion.FILES, name: md5(content)})
    assert len(get_task("fashion_mnist").test) == 50


@pytest.mark.data("cifar-10-batches-bin", "fashion-mnist")
def test_the_real_sets_have_their_published_sizes(needs_data):
    cifar, mnist = get_task("cifar10"), get_task("fashion_mnist")
    assert [len(s) for s in cifar.splits().values()] == [45_000, 5_000, 10_000]
    assert [len(s) for s in mnist.splits().values()] == [54_000, 6_000, 10_000]
    for task in (cifar, mnist):
        assert torch.bincount(task.test.targets).tolist() == [1000] * 10
        seen = torch.cat([inputs["image"] for inputs, _ in task.validation.batches(1000)])
        assert abs(float(seen.mean())) < 0.02 and abs(float(seen.std()) - 1) < 0.03
