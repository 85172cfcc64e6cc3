import errno
import hashlib
import http.server
import io
import json
import os
import random
import re
import signal
import socket
import ssl
import stat
import struct
import tarfile
import threading
import time
import urllib.error
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from builders import pictures

from helpers import __main__ as command
from helpers import datasets, downloads

BODY = random.Random(0).randbytes(300_000)
HALF = len(BODY) // 2


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


# ---------------------------------------------------------------------------------------------- server


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`; each request takes the next of `server.plan`, and behaves well when that is empty."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.log.append((self.path, asked))
        plan = server.plan.pop(0) if server.plan else {}
        if plan.get("change"):
            server.files[self.path] = plan["change"]
        body = server.files.get(self.path)
        status = plan.get("status", 200 if body is not None else 404)
        if status != 200:
            return self.send_error(status)
        tag = plan.get("tag", f'"{sha256(body)[:8]}"')
        start = self.start(asked, tag, len(body), plan)
        if start is None:
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if not plan.get("bare"):
            self.send_header("ETag", tag)
        if "date" in plan:
            self.send_header("Last-Modified", plan["date"])
        if not plan.get("endless"):
            self.send_header("Content-Length", str(len(body) - start))
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        self.send(body[start:], plan)

    def start(self, asked, tag, length, plan):
        """Where the answer begins; None for a range beyond the end."""
        unchanged = self.headers.get("If-Range", "none") in (tag, plan.get("date"))
        if not asked or plan.get("no range") or not (unchanged or plan.get("no if-range")):
            return 0
        first = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) - plan.get("shift", 0)
        return first if first < length else None

    def send(self, body, plan):
        body = bytes(len(body)) if plan.get("wrong") else body
        self.wfile.write(body[: plan.get("after", len(body))])
        self.wfile.flush()
        if "after" in plan:
            plan.get("then", lambda: None)()
            if plan.get("reset"):  # as when a machine on the way forgets the connection: not an end but an error
                time.sleep(0.05)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                os.close(self.connection.detach())

    def finish(self):
        try:
            super().finish()
        except OSError:  # reset above
            pass

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.plan, self.log = {"/file.bin": BODY}, [], []

    def url(self, path: str = "/file.bin") -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    def handle_error(self, *_):
        pass

    @property
    def ranges(self) -> list[str | None]:
        return [asked for _, asked in self.log]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(downloads, "WAITS", (0, 0, 0))
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "file.bin"


def fetch(server: Server, path: Path, **options) -> Path:
    return downloads.fetch(server.url(), path, **({"progress": False} | options))


def left(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.glob("*"))


def refused(server: Server, path: Path, *hints: str, **options) -> str:
    """What fetch says when it must refuse: one sentence with the hints, and no final file."""
    with pytest.raises(downloads.DownloadError) as why:
        fetch(server, path, **options)
    line = str(why.value)
    assert "\n" not in line
    assert all(hint in line for hint in hints), line
    assert not path.exists()
    return line


# ------------------------------------------------------------------------------------------- it arrives


def test_a_file_arrives_once_and_is_left_alone(server, path):
    assert fetch(server, path, sha256=sha256(BODY), size=len(BODY)) == path
    assert path.read_bytes() == BODY
    assert left(path) == ["file.bin"]
    before = path.stat().st_mtime_ns
    fetch(server, path, sha256=sha256(BODY), size=len(BODY))
    assert len(server.log) == 1
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("known", [{"sha256": sha256(BODY)}, {"size": len(BODY)}], ids=["sha256", "size"])
def test_a_file_that_is_there_but_wrong_is_replaced(server, path, known):
    path.parent.mkdir()
    path.write_bytes(b"old")
    fetch(server, path, **known)
    assert path.read_bytes() == BODY


@pytest.mark.parametrize("plan", [{"endless": True}, {"bare": True}, {"endless": True, "bare": True}])
def test_a_server_that_tells_little(server, path, plan):
    server.plan = [plan]
    assert fetch(server, path, sha256=sha256(BODY)).read_bytes() == BODY


@pytest.mark.parametrize("end", [{}, {"reset": True}], ids=["closed", "reset"])
def test_dropped_connections_are_gone_on_from(server, path, end):
    server.plan = [{"after": 100_000} | end, {"after": 50_000} | end, {"after": 10_000} | end]
    assert fetch(server, path).read_bytes() == BODY
    assert len(server.log) == 4
    assert server.ranges == [None, "bytes=100000-", "bytes=150000-", "bytes=160000-"]


def test_progress_earns_new_patience(server, path):
    """More drops than attempts without progress are allowed."""
    server.plan = [{"after": 20_000} for _ in range(12)]
    assert fetch(server, path, sha256=sha256(BODY)).read_bytes() == BODY
    assert len(server.log) == 13


def test_a_silent_server_counts_as_dropped(server, path, monkeypatch):
    monkeypatch.setattr(downloads, "TIMEOUT", 0.2)
    woken = threading.Event()
    server.plan = [{"after": 100_000, "then": lambda: woken.wait(3) or woken.set()}]
    assert fetch(server, path).read_bytes() == BODY
    assert server.ranges == [None, "bytes=100000-"]
    assert not woken.is_set()
    woken.set()


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_a_server_out_of_sorts_is_asked_again(server, path, status):
    server.plan = [{"status": status}, {"status": status}]
    assert fetch(server, path).read_bytes() == BODY


def test_the_waits_grow_and_end(server, path, monkeypatch):
    waited = []
    monkeypatch.setattr(downloads, "WAITS", (1, 2, 4))
    monkeypatch.setattr(downloads.time, "sleep", waited.append)
    server.plan = [{"status": 503}] * 9
    refused(server, path, "503", "run it again")
    assert waited == [1, 2, 4]
    assert len(server.log) == 4
    assert left(path) == []


# --------------------------------------------------------------------------------------------- resuming


def begin(server: Server, path: Path, **plan) -> None:
    """A first call that gives up with half of the file."""
    server.plan = [{"after": HALF} | plan] + [{"status": 503}] * 3
    refused(server, path, "goes on where it ended", size=len(BODY))
    assert left(path) == ["file.bin.part", "file.bin.part.json"]
    assert (path.parent / "file.bin.part").read_bytes() == BODY[:HALF]
    server.log.clear()
    server.plan.clear()


def test_the_next_call_goes_on(server, path):
    begin(server, path)
    assert fetch(server, path, sha256=sha256(BODY)).read_bytes() == BODY
    assert server.ranges == [f"bytes={HALF}-"]
    assert left(path) == ["file.bin"]


def test_a_server_without_ranges_sends_all_anew(server, path):
    begin(server, path)
    server.plan = [{"no range": True}]
    assert fetch(server, path).read_bytes() == BODY
    assert len(server.log) == 1


OTHER = random.Random(1).randbytes(len(BODY))


@pytest.mark.parametrize("body", [OTHER, OTHER[:HALF], OTHER + OTHER], ids=["same size", "shorter", "longer"])
@pytest.mark.parametrize("plan", [{}, {"no if-range": True}], ids=["If-Range", "no If-Range"])
def test_a_changed_file_is_not_glued_to_an_old_part(server, path, body, plan):
    begin(server, path)
    server.plan = [{"change": body} | plan]
    assert fetch(server, path).read_bytes() == body


def test_a_file_that_changes_between_two_attempts(server, path):
    server.plan = [{"after": HALF}, {"change": OTHER, "after": 1000}]
    assert fetch(server, path).read_bytes() == OTHER


@pytest.mark.parametrize("first", [{}, {"endless": True}], ids=["known size", "unknown size"])
def test_a_server_that_sends_another_range(server, path, first):
    begin(server, path, **first)
    server.plan = [{"shift": 1000}]
    assert fetch(server, path).read_bytes() == BODY
    assert server.ranges == [f"bytes={HALF}-", None]


def test_another_size_under_the_same_mark_is_another_file(server, path):
    begin(server, path, tag='"same"')
    server.plan = [{"change": OTHER + OTHER, "tag": '"same"'}]
    assert fetch(server, path).read_bytes() == OTHER + OTHER


def test_a_weak_mark_does_not_promise_the_same_bytes(server, path):
    begin(server, path, tag='W/"weak"')
    server.plan = [{"change": OTHER, "tag": 'W/"weak"'}]
    assert fetch(server, path).read_bytes() == OTHER


def test_the_date_of_the_file_will_do(server, path):
    begin(server, path, bare=True, date="Tue, 14 Feb 2017 01:58:09 GMT")
    server.plan = [{"bare": True, "date": "Tue, 14 Feb 2017 01:58:09 GMT"}]
    assert fetch(server, path).read_bytes() == BODY
    assert server.ranges == [f"bytes={HALF}-"]


def test_a_part_without_a_mark_of_its_version_is_begun_anew(server, path):
    begin(server, path, bare=True)
    assert fetch(server, path).read_bytes() == BODY
    assert server.ranges == [None]


@pytest.mark.parametrize("note", [None, b"", b"{", b"{}", b"3"])
def test_a_part_of_unknown_origin_is_begun_anew(server, path, note):
    begin(server, path)
    (path.parent / "file.bin.part").write_bytes(OTHER[:1000])
    (path.parent / "file.bin.part.json").unlink()
    if note is not None:
        (path.parent / "file.bin.part.json").write_bytes(note)
    assert fetch(server, path).read_bytes() == BODY
    assert server.ranges == [None]


def test_a_part_of_another_address_is_begun_anew(server, path):
    begin(server, path, tag='"same"')
    server.files["/other.bin"] = OTHER
    server.plan = [{"tag": '"same"'}]
    downloads.fetch(server.url("/other.bin"), path, progress=False)
    assert path.read_bytes() == OTHER


def test_a_whole_part_needs_only_its_name(server, path):
    begin(server, path)
    (path.parent / "file.bin.part").write_bytes(BODY)
    assert fetch(server, path, sha256=sha256(BODY)).read_bytes() == BODY
    assert server.log == []


def test_a_part_that_is_too_long_is_begun_anew(server, path):
    begin(server, path)
    (path.parent / "file.bin.part").write_bytes(BODY + b"more")
    assert fetch(server, path).read_bytes() == BODY


@pytest.fixture
def interrupt(monkeypatch):
    """Ctrl-C, once the first bytes are written."""
    if not hasattr(signal, "pthread_kill"):
        pytest.skip("no signals to threads on this system")
    written, chunks = threading.Event(), downloads._chunks

    def watched(response):
        for chunk in chunks(response):
            yield chunk
            written.set()  # they ask for more

    def press():
        written.wait(5)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.05)

    monkeypatch.setattr(downloads, "_chunks", watched)
    return press


def test_ctrl_c_leaves_a_part_that_the_next_call_takes(server, path, interrupt):
    server.plan = [{"after": HALF, "then": interrupt}]
    with pytest.raises(KeyboardInterrupt):
        fetch(server, path)
    assert left(path) == ["file.bin.part", "file.bin.part.json"]
    size = (path.parent / "file.bin.part").stat().st_size
    assert 0 < size <= HALF
    assert fetch(server, path).read_bytes() == BODY
    assert server.ranges == [None, f"bytes={size}-"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_killed_process_leaves_a_part_that_the_next_call_takes(server, path):
    server.plan = [{"after": HALF, "then": lambda: time.sleep(10)}]
    child = os.fork()
    if not child:
        try:
            fetch(server, path)
        finally:
            os._exit(1)
    part, deadline = path.parent / "file.bin.part", time.monotonic() + 5
    while (not part.exists() or part.stat().st_size < HALF - (1 << 16)) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert not path.exists()
    size = part.stat().st_size
    assert size > HALF // 2
    assert fetch(server, path).read_bytes() == BODY
    assert server.ranges == [None, f"bytes={size}-"]
    assert left(path) == ["file.bin"]


@pytest.mark.skipif(downloads.fcntl is None, reason="no locks on this system")
def test_two_processes_do_not_write_one_part(server, path):
    go = threading.Event()
    server.plan = [{"after": HALF, "then": lambda: go.wait(5)}]
    first = threading.Thread(target=fetch, args=(server, path))
    first.start()
    deadline = time.monotonic() + 5
    while not server.log and time.monotonic() < deadline:
        time.sleep(0.01)
    refused(server, path, "another process")
    go.set()
    first.join()
    assert path.read_bytes() == BODY
    assert left(path) == ["file.bin"]


# ------------------------------------------------------------------------------------------ it is wrong


def test_wrong_bytes_are_removed(server, path):
    server.plan = [{"wrong": True}]
    refused(server, path, "SHA-256", sha256(BODY), sha256(bytes(len(BODY))), "run it again", sha256=sha256(BODY))
    assert left(path) == []
    assert fetch(server, path, sha256=sha256(BODY)).read_bytes() == BODY


def test_wrong_bytes_keep_the_old_file(server, path):
    path.parent.mkdir()
    path.write_bytes(b"old")
    server.plan = [{"wrong": True}]
    with pytest.raises(downloads.DownloadError):
        fetch(server, path, sha256=sha256(BODY))
    assert path.read_bytes() == b"old"


def test_a_part_with_wrong_bytes_is_found_out(server, path):
    begin(server, path)
    (path.parent / "file.bin.part").write_bytes(OTHER[:HALF])
    refused(server, path, "SHA-256", sha256=sha256(BODY))
    assert left(path) == []


def test_a_body_that_stays_shorter_than_promised(server, path):
    server.plan = [{"after": 0}] + [{"after": 1000}] + [{"after": 0}] * 9
    refused(server, path, "1,000 of 300,000 bytes")
    assert left(path) == ["file.bin.part", "file.bin.part.json"]


def test_a_short_body_without_a_promise_but_of_known_size(server, path):
    server.plan = [{"endless": True, "after": 1000}] + [{"endless": True, "after": 0}] * 9
    refused(server, path, "1,000 of 300,000 bytes", size=len(BODY))
    server.plan.clear()
    assert fetch(server, path, size=len(BODY)).read_bytes() == BODY
    assert server.ranges[-1] == "bytes=1000-"


def test_another_size_than_the_catalogue_says(server, path):
    """A page that asks for a login, say: refused before it is read, and a part stays."""
    begin(server, path)
    server.files["/file.bin"] = b"<html>Log in</html>"
    refused(server, path, "19 bytes", "300,000", size=len(BODY))
    assert (path.parent / "file.bin.part").read_bytes() == BODY[:HALF]


@pytest.mark.parametrize("status", [404, 410, 403])
def test_a_file_that_is_gone(server, path, status):
    server.plan = [{"status": status}]
    with pytest.raises(downloads.Gone, match=f"{status}.*publisher's page"):
        fetch(server, path)
    assert len(server.log) == 1
    assert left(path) == []


def test_no_network(server, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/file.bin"
    with pytest.raises(downloads.DownloadError, match="check the network"):
        downloads.fetch(url, tmp_path / "file.bin", progress=False)
    assert not list(tmp_path.iterdir())


def test_a_certificate_that_is_not_trusted_is_not_tried_again(tmp_path, monkeypatch):
    calls = []

    def refuse(request, timeout):
        calls.append(request.full_url)
        raise urllib.error.URLError(ssl.SSLCertVerificationError(1, "certificate verify failed"))

    monkeypatch.setattr(downloads.urllib.request, "urlopen", refuse)
    with pytest.raises(downloads.DownloadError, match="certificate is not trusted"):
        downloads.fetch("https://example.org/x", tmp_path / "x", progress=False)
    assert len(calls) == 1


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/x", "nonsense"])
def test_only_the_web(tmp_path, url):
    with pytest.raises(downloads.DownloadError, match="https://"):
        downloads.fetch(url, tmp_path / "x", progress=False)


def test_a_disk_too_small_is_said_at_once(server, path, monkeypatch):
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: SimpleNamespace(free=len(BODY) - 1))
    refused(server, path, "disk is full", "file.bin")


class Full(io.FileIO):
    """A file on a disk with room for 100 000 bytes."""

    def write(self, data):
        if self.seek(0, os.SEEK_END) + len(data) > 100_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def test_a_disk_that_fills_keeps_the_part(server, path, monkeypatch):
    opened = Path.open
    monkeypatch.setattr(downloads, "CHUNK", 10_000)

    def small(self, mode="r", *more, **options):
        return Full(self, "a") if mode == "ab" else opened(self, mode, *more, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", small)
        refused(server, path, "disk is full", "file.bin", "free some space")
    size = (path.parent / "file.bin.part").stat().st_size
    assert size > 80_000
    assert fetch(server, path).read_bytes() == BODY
    assert server.ranges == [None, f"bytes={size}-"]


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "new").write_text("a file where a folder is wanted")
    with pytest.raises(downloads.DownloadError, match="name another folder"):
        fetch(server, tmp_path / "new" / "file.bin")


# --------------------------------------------------------------------------------------------- progress


def test_no_bar_where_there_is_no_terminal(server, path, capsys):
    fetch(server, path, progress=True)
    assert capsys.readouterr().err == ""


def test_the_bar_counts_what_was_there(server, path, capsys, monkeypatch):
    begin(server, path)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    fetch(server, path, progress=True)
    last = capsys.readouterr().err.split("\r")[-1]
    assert "file.bin: 100%" in last
    assert "300k/300k" in last


# ----------------------------------------------------------------------------------------------- unpack


def zipped(path: Path, members: dict[str, bytes], mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, body in members.items():
            about = zipfile.ZipInfo(name)
            about.external_attr = mode << 16
            about.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(about, body)
    return path


def tarred(path: Path, members: dict[str, bytes], **about) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as file:
        for name, body in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            for key, value in about.items():
                setattr(member, key, value)
            file.addfile(member, io.BytesIO(body))
    return path


GOOD = {"set/a.txt": b"a" * 1000, "set/deep/b.txt": b"b", "other/c.txt": b"c", "set2/d.txt": b"d"}
ARCHIVES = [("x.zip", zipped), ("x.tar", tarred), ("x.tgz", tarred)]


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(("name", "make"), ARCHIVES)
def test_extract(tmp_path, name, make):
    archive = make(tmp_path / name, GOOD)
    assert tree(downloads.extract(archive, tmp_path / "all")) == GOOD
    some = {key: body for key, body in GOOD.items() if key.startswith("set/")}
    assert tree(downloads.extract(archive, tmp_path / "some", ["set"])) == some
    assert {p.name for p in tmp_path.iterdir()} == {name, "all", "some"}
    with pytest.raises(downloads.DownloadError, match="already there"):
        downloads.extract(archive, tmp_path / "all")


def rejected(archive: Path, *hints: str, only=()) -> None:
    """extract refuses, says why, and nothing is left behind, inside or outside."""
    place = archive.parent
    before = {str(p) for p in place.parent.rglob("*")}
    with pytest.raises(downloads.DownloadError) as why:
        downloads.extract(archive, place / "out", only)
    assert all(hint in str(why.value) for hint in (archive.name, *hints)), why.value
    assert {str(p) for p in place.parent.rglob("*")} == before


BAD_NAMES = [
    "../evil.txt",
    "set/../../evil.txt",
    "ABSOLUTE/evil.txt",
    "..\\evil.txt",
    "C:\\evil.txt",
    "C:evil.txt",
    "\\\\host\\share\\evil.txt",
    "//host/evil.txt",
]


@pytest.mark.parametrize(("archive", "make"), ARCHIVES[:2])
@pytest.mark.parametrize("name", BAD_NAMES)
def test_no_member_leaves_the_folder(tmp_path, archive, make, name):
    place = tmp_path / "place"
    place.mkdir()
    name = name.replace("ABSOLUTE", tmp_path.as_posix())
    rejected(make(place / archive, {"good.txt": b"good", name: b"evil"}), "leads out")


def test_a_folder_asked_for_is_no_way_out(tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    rejected(zipped(place / "x.zip", {"set/../../evil.txt": b"evil"}), "leads out", only=["set"])


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE], ids=str
)
@pytest.mark.parametrize("target", ["/etc/passwd", "../../evil", "good.txt"])
def test_no_links_and_no_devices_in_a_tar(tmp_path, kind, target):
    (tmp_path / "place").mkdir()
    rejected(tarred(tmp_path / "place" / "x.tar", {"link": b""}, type=kind, linkname=target), "'link'", "is a link")


@pytest.mark.parametrize("mode", [stat.S_IFLNK | 0o777, stat.S_IFCHR | 0o666, stat.S_IFIFO | 0o666])
def test_no_links_and_no_devices_in_a_zip(tmp_path, mode):
    (tmp_path / "place").mkdir()
    rejected(zipped(tmp_path / "place" / "x.zip", {"link": b"/etc/passwd"}, mode), "'link'", "is a link")


@pytest.mark.parametrize(("name", "make"), ARCHIVES)
def test_bombs_are_refused_by_what_they_declare(tmp_path, monkeypatch, name, make):
    (tmp_path / "place").mkdir()
    archive = make(tmp_path / "place" / name, {f"{index}.txt": bytes(1000) for index in range(20)})
    monkeypatch.setattr(downloads, "MAX_UNPACKED", 19_999)
    rejected(archive, "too much")
    monkeypatch.setattr(downloads, "MAX_UNPACKED", 20_000)
    monkeypatch.setattr(downloads, "MAX_MEMBERS", 19)
    rejected(archive, "too much")
    rejected(archive, "too much", only=["nothing"])
    monkeypatch.setattr(downloads, "MAX_MEMBERS", 20)
    assert len(tree(downloads.extract(archive, tmp_path / "out"))) == 20


def test_a_zip_that_understates_its_size_is_cut_there(tmp_path):
    """The bytes after the declared ones are never written."""
    (tmp_path / "place").mkdir()
    archive = zipped(tmp_path / "place" / "x.zip", {"a.txt": bytes(100_000)})
    body = archive.read_bytes()
    archive.write_bytes(body.replace(struct.pack("<L", 100_000), struct.pack("<L", 10)))
    rejected(archive, "damaged")


@pytest.mark.parametrize(("name", "make"), ARCHIVES)
@pytest.mark.parametrize("damage", ["half", "empty", "text", "flipped"])
def test_damaged_archives(tmp_path, name, make, damage):
    (tmp_path / "place").mkdir()
    archive = make(tmp_path / "place" / name, {"a.bin": BODY[:50_000], "b.bin": OTHER[:50_000]})
    body = bytearray(archive.read_bytes())
    body[20_000] ^= 255
    changes = {"half": body[:30_000], "empty": b"", "text": b"hello world\n" * 99, "flipped": body}
    archive.write_bytes(changes[damage])
    if damage == "flipped" and name != "x.zip":  # a tar has no checksum of its contents; SHA-256 is for that
        return
    rejected(archive, "damaged, or no archive")


def test_a_zip_with_a_password(tmp_path):
    (tmp_path / "place").mkdir()
    archive = zipped(tmp_path / "place" / "x.zip", {"a.txt": b"a"})
    body = bytearray(archive.read_bytes())
    body[6] |= 1
    body[body.index(b"PK\1\2") + 8] |= 1
    archive.write_bytes(body)
    rejected(archive, "damaged, or no archive")


@pytest.mark.parametrize(("name", "make"), ARCHIVES[:2])
def test_a_disk_that_fills_while_unpacking(tmp_path, monkeypatch, name, make):
    (tmp_path / "place").mkdir()
    archive = make(tmp_path / "place" / name, GOOD)
    before = set(tmp_path.rglob("*"))

    def full(source, file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(downloads.shutil, "copyfileobj", full)
        with pytest.raises(downloads.DownloadError, match="disk is full"):
            downloads.extract(archive, tmp_path / "place" / "out")
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: SimpleNamespace(free=999))
    with pytest.raises(downloads.DownloadError, match="disk is full"):
        downloads.extract(archive, tmp_path / "place" / "out")
    assert set(tmp_path.rglob("*")) == before


def test_what_a_killed_process_unpacked_is_removed(tmp_path):
    (tmp_path / ".out.unpacking" / "set").mkdir(parents=True)
    (tmp_path / ".out.unpacking" / "set" / "stale.txt").write_text("stale")
    assert tree(downloads.extract(zipped(tmp_path / "x.zip", GOOD), tmp_path / "out")) == GOOD


def test_an_archive_that_is_not_there(tmp_path):
    with pytest.raises(downloads.DownloadError, match="no such file"):
        downloads.extract(tmp_path / "x.zip", tmp_path / "out")


# ------------------------------------------------------------------------------------------------- sets


@pytest.fixture
def shop(server, tmp_path, monkeypatch):
    """A catalogue of two sets at the server, in an archive and as single pictures; returns their entries."""
    source = pictures(tmp_path / "source", count=6)
    bodies = {p.name: p.read_bytes() for p in sorted(source.iterdir())}
    members = {f"top/train/{name}": body for name, body in bodies.items()}
    members |= {"top/train/Thumbs.db": b"x", "top/val/v.png": bodies["000.png"], "top/tool.exe": b"x"}
    archive = tarred(tmp_path / "x.tgz", members).read_bytes()
    server.files |= {"/sets/x.tgz": archive} | {f"/single/{name}": body for name, body in bodies.items()}
    common = {"title": "t", "page": "https://example.org", "licence": "free", "citation": "c", "megabytes": 1}
    boxed = common | {
        "url": server.url("/sets/x.tgz"),
        "bytes": len(archive),
        "sha256": sha256(archive),
        "folders": {
            "train/A_train": {"inside": "top/train", "count": 5, "leave_out": ["003.png"]},
            "test/A_test": {"inside": "top/val", "count": 1},
        },
    }
    single = common | {
        "url": server.url("/single/{}.png"),
        "bytes": None,
        "sha256": None,
        "folders": {"train/B": {"count": 6}},
        "pictures": [f"{index:03d}" for index in range(6)],
    }
    monkeypatch.setattr(downloads, "CATALOG", tmp_path / "catalog")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    list_sets({"boxed": boxed, "single": single})
    return {"boxed": boxed, "single": single}


def list_sets(entries: dict[str, dict]) -> None:
    downloads.CATALOG.mkdir(exist_ok=True)
    for name, entry in entries.items():
        (downloads.CATALOG / f"{name}.json").write_text(json.dumps(entry), encoding="utf-8")


def test_a_set_in_an_archive(server, shop, tmp_path):
    data = tmp_path / "data"
    assert downloads.present("boxed") == {}
    folders = downloads.download("boxed", progress=False)
    assert folders == [data / "train" / "A_train", data / "test" / "A_test"]
    assert [p.name for p in datasets.folder("A_train")] == ["000.png", "001.png", "002.png", "004.png", "005.png"]
    assert [p.read_bytes() for p in datasets.folder("A_test")] == [server.files["/single/000.png"]]
    assert sorted(p.name for p in data.iterdir()) == ["test", "train"]
    assert list(downloads.present("boxed").values()) == folders

    before = tree(data)
    assert downloads.download("boxed", progress=False) == folders
    assert len(server.log) == 1
    assert tree(data) == before


def test_a_set_of_single_pictures(server, shop, tmp_path):
    assert downloads.download("single", progress=False) == [tmp_path / "data" / "train" / "B"]
    assert [p.read_bytes() for p in datasets.folder("B")] == [
        server.files[f"/single/00{index}.png"] for index in range(6)
    ]
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["train"]
    downloads.download("single", progress=False)
    assert len(server.log) == 6


def test_what_is_there_already_is_left_alone(server, shop, tmp_path):
    """Also where its owner put it, straight into the folder of sets; only the rest is made."""
    mine = pictures(tmp_path / "data" / "A_train", count=1)
    before = tree(mine)
    assert downloads.download("boxed", progress=False) == [mine, tmp_path / "data" / "test" / "A_test"]
    assert tree(mine) == before
    assert not (tmp_path / "data" / "train").exists()


def test_another_folder(server, shop, tmp_path):
    assert downloads.download("single", tmp_path / "else", progress=False) == [tmp_path / "else" / "train" / "B"]
    assert not (tmp_path / "data").exists()


def test_an_unpacking_that_was_interrupted_needs_no_new_download(server, shop, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(downloads.shutil, "copyfileobj", stop)
        with pytest.raises(KeyboardInterrupt):
            downloads.download("boxed", progress=False)
    assert list(tree(tmp_path / "data")) == ["x.tgz"]
    assert len(downloads.download("boxed", progress=False)) == 2
    assert len(server.log) == 1
    assert not (tmp_path / "data" / "x.tgz").exists()


def test_an_archive_with_other_contents_than_listed(server, shop, tmp_path):
    shop["boxed"]["folders"]["test/A_test"]["inside"] = "top/elsewhere"
    list_sets(shop)
    with pytest.raises(downloads.DownloadError, match="holds 0 pictures in top/elsewhere and not 1"):
        downloads.download("boxed", progress=False)
    assert not (tmp_path / "data" / "test").exists()


def test_wrong_bytes_make_no_set(server, shop, tmp_path):
    server.plan = [{"wrong": True}]
    with pytest.raises(downloads.DownloadError, match="SHA-256"):
        downloads.download("boxed", progress=False)
    assert tree(tmp_path / "data") == {}


def test_single_pictures_are_looked_at_and_gone_on_from(server, shop, tmp_path):
    server.files["/single/003.png"] = server.files["/single/003.png"][:-500]
    with pytest.raises(downloads.DownloadError, match="003.png: what came is no whole picture"):
        downloads.download("single", progress=False)
    assert not (tmp_path / "data" / "train").exists()
    server.files["/single/003.png"] = server.files["/single/004.png"]
    server.log.clear()
    downloads.download("single", progress=False)
    assert [path for path, _ in server.log] == ["/single/003.png", "/single/004.png", "/single/005.png"]
    assert len(datasets.folder("B")) == 6


def test_a_few_single_pictures_may_be_gone_but_not_many(server, shop, tmp_path):
    numbers = range(6, 20)
    server.files |= {f"/single/{index:03d}.png": server.files["/single/000.png"] for index in numbers}
    shop["single"]["pictures"] += [f"{index:03d}" for index in numbers]
    list_sets(shop)
    for index in (2, 9):
        del server.files[f"/single/{index:03d}.png"]
    body = server.files.pop("/single/015.png")
    with pytest.raises(downloads.DownloadError, match=r"3 pictures are gone.*002\.png"):
        downloads.download("single", progress=False)
    server.files["/single/015.png"] = body
    downloads.download("single", progress=False)
    assert len(datasets.folder("B")) == 18


def test_an_unknown_set(shop):
    for ask in (downloads.download, downloads.present):
        with pytest.raises(downloads.DownloadError, match="'DIV9K'; there are boxed, single"):
            ask("DIV9K")


# ----------------------------------------------------------------------------------------- command line


def run(*arguments) -> int:
    try:
        return command.main(["download", *map(str, arguments)])
    except SystemExit as end:
        return end.code


def test_the_command_downloads_once(server, shop, tmp_path, capsys):
    assert run("boxed") == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert f"{tmp_path / 'data' / 'train' / 'A_train'}: 5 pictures\n" in said.out
    assert "licence: free" in said.out
    assert run("boxed", "--quiet") == 0
    assert capsys.readouterr().out.count("already there") == 2
    assert len(server.log) == 1


@pytest.mark.parametrize("arguments", [(), ("--list",), ("single", "--list")])
def test_the_command_lists(server, shop, capsys, arguments):
    downloads.download("single", progress=False)
    server.log.clear()
    assert run(*arguments) == 0
    boxed, single = capsys.readouterr().out.splitlines()
    assert boxed.split()[:6] == ["boxed", "1", "MB", "6", "pictures", "free"]
    assert "is there" not in boxed
    assert "is there" in single
    assert server.log == []


def test_the_command_and_another_folder(shop, tmp_path, capsys):
    assert run("single", "--out", tmp_path / "else") == 0
    assert len(datasets.folder(tmp_path / "else" / "train" / "B")) == 6


@pytest.mark.parametrize(
    ("plan", "arguments", "hints"),
    [
        ([], ["DIV9K"], ["DIV9K", "boxed, single"]),
        ([{"status": 404}], ["boxed"], ["404", "x.tgz"]),
        ([{"wrong": True}], ["boxed"], ["SHA-256", "run it again"]),
        ([{"after": 100}] + [{"status": 500}] * 9, ["boxed"], ["check the network", "goes on"]),
        ([], ["boxed", "--out", "source/000.png"], ["source/000.png", "another folder"]),
        ([], ["boxed", "--what"], ["--what"]),
    ],
)
def test_the_command_says_what_is_wrong_in_one_line(server, shop, capsys, plan, arguments, hints):
    server.plan = plan
    assert run(*arguments, "--quiet") == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("error: ")
    assert all(hint in line for hint in hints), line


def test_the_command_interrupted_goes_on_when_called_again(server, shop, tmp_path, interrupt):
    server.plan = [{"after": 5000, "then": interrupt}]
    assert run("boxed") == 130
    assert sorted(tree(tmp_path / "data")) == ["x.tgz.part", "x.tgz.part.json"]
    assert run("boxed") == 0
    assert server.ranges == [None, "bytes=5000-"]


# ------------------------------------------------------------------------------------ the real catalogue

REAL = downloads.catalog()


def test_the_catalogue_has_the_sets_of_the_course():
    assert {"DIV2K_train_HR", "DIV2K_valid_HR", "BSDS500", "OpenImages200"} <= set(REAL)


@pytest.mark.parametrize("name", REAL)
def test_each_entry_is_complete(name):
    entry = REAL[name]
    for key in ("title", "licence", "terms", "citation", "checksum_source", "not_tried"):
        assert len(entry[key]) > 10, key
    assert entry["url"].startswith("https://")
    assert entry["page"].startswith("https://")
    assert entry["sha256"] is None or re.fullmatch("[0-9a-f]{64}", entry["sha256"])
    if entry["sha256"] is None:
        assert "pictures" in entry  # an archive without a checksum is not taken
    else:
        assert round(entry["bytes"] / 1e6) == entry["megabytes"]
    for folder, about in entry["folders"].items():
        assert re.fullmatch(r"(train|test)/\w+", folder)
        assert about["count"] > 0
        if "pictures" not in entry:
            assert not downloads._escapes(about["inside"])


def test_no_folder_is_promised_twice():
    folders = [Path(folder).name for entry in REAL.values() for folder in entry["folders"]]
    assert len(set(folders)) == len(folders)


def test_the_list_of_open_images():
    entry = REAL["OpenImages200"]
    (about,) = entry["folders"].values()
    assert len(set(entry["pictures"])) == len(entry["pictures"]) == about["count"]
    assert all(re.fullmatch("[0-9a-f]{16}", picture) for picture in entry["pictures"])


def test_what_the_literature_tests_on_is_not_trained_on(course_data):
    """BSD100 lies under test/, and copies of test pictures are left out, as in the sets that the course trains on."""
    folders = REAL["BSDS500"]["folders"]
    assert "test/BSD100" in folders
    for folder, about in folders.items():
        files = [path.name for path in datasets.folder(course_data / folder)]
        assert len(files) == about["count"]
        assert not set(files) & set(about.get("leave_out", ()))
