"""Files on a disk of this machine, on a mounted volume (`/Volumes/...`), or on ADLS (`abfs(s)://`).

adlfs reads ADLS with the credentials of the environment (`AZURE_STORAGE_*`). On a cluster `spark_env_vars` sets them
from a secret scope for driver and executors alike: no credential is passed between them, or stored in a table, a
parameter or a log.

A written file is complete or absent. It is written to a local disk first, then renamed or uploaded in one put, because
fsspec commits a file that is written piece by piece even if the write breaks off. Readers that need a file name, as
OpenCV does, get that of a temporary copy without a directory entry. The copy is gone when the process ends, even by
SIGKILL, with which Spark ends workers whose rows are no longer needed.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import fsspec

from cygnet.errors import UserError

REMOTE = ("abfs://", "abfss://")
VOLUMES = "/Volumes/"
"""Volumes don't support random writes, which mp4 needs: a file is written elsewhere and copied there."""

MARKER = "_SUCCESS"
MAX_CONNECTIONS = 4
"""Connections per transfer, which hold 4 MiB each; the default of adlfs is 128."""

CREDENTIALS = (
    "set AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY, or with AZURE_STORAGE_TENANT_ID, "
    "AZURE_STORAGE_CLIENT_ID and AZURE_STORAGE_CLIENT_SECRET, of a Storage Blob Data Contributor of the account"
)


def is_remote(path: str) -> bool:
    """Tell whether a path is on ADLS."""
    return path.startswith(REMOTE)


def absolute(path: str) -> str:
    """Give a path that another working directory does not change; one on ADLS is such a path."""
    return path if is_remote(path) else str(Path(path).absolute())


@contextmanager
def reached(path: str) -> Iterator[tuple[fsspec.AbstractFileSystem, str]]:
    """Give the file system of a path, and the path within it.

    Raises:
        UserError: Also for what happens in the block: the credentials are missing or refused, the container is
            missing, ADLS can't be reached, the connection broke off, or other libraries would misread the path.
    """
    if path.startswith("abfs://") and "@" in path.split("/")[2]:
        msg = f"{path}: write abfss:// for abfs:// where a path names the account; Kedro drops the container otherwise."
        raise UserError(msg)
    try:
        yield fsspec.url_to_fs(path)
    except Exception as error:
        sentence = explain(error, path)
        if sentence is None:
            raise
        raise UserError(sentence) from None  # the error may repeat credentials


def explain(error: BaseException, path: str = "ADLS") -> str | None:
    """Describe an error of ADLS in a sentence, without the library's message, which may repeat a signature.

    Returns:
        None if the error has another cause, or is about a file that does not exist.
    """
    for cause in _chain(error):
        if isinstance(cause, ImportError) and "adlfs" in str(cause):
            return f"{path}: ADLS needs `pip install 'cygnet[azure]'`."
        if isinstance(cause, ValueError) and str(cause).startswith("unable to connect to account"):
            return f"{path}: there are no usable credentials for ADLS: {CREDENTIALS}."
        if "org.apache.hadoop.fs.azurebfs" in str(cause) and "ClassNotFoundException" in str(cause):
            return "This Spark can't read ADLS, it lacks hadoop-azure: keep CYGNET_DATA on a disk, or use a cluster."
        if type(cause).__module__.startswith("azure."):
            return _explain_azure(cause, path)
    return None


def _explain_azure(error: Any, path: str) -> str | None:
    from azure.core.exceptions import AzureError, ClientAuthenticationError

    status, code = getattr(error, "status_code", None), getattr(error, "error_code", None)
    name = getattr(code, "value", code) or type(error).__name__
    if name in {"ContainerNotFound", "ContainerBeingDeleted"}:
        return f"{path}: there is no such container in the storage account: create it, or correct the path."
    if status == 404 or not isinstance(error, AzureError):
        return None
    if isinstance(error, ClientAuthenticationError) or status in {401, 403}:
        return f"{path}: ADLS refused the credentials ({name}): {CREDENTIALS}."
    if status is not None and status >= 300:
        return f"{path}: the request to ADLS failed with status {status} ({name})."
    return (
        f"{path}: ADLS can't be reached, or the connection broke off ({name}): check the account's name and the "
        "network, then run it again."
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def check_access(path: str) -> None:
    """Check that a path can be accessed, whether or not it exists.

    Raises:
        UserError: See `reached`.
    """
    if is_remote(path):
        list_files(path)
        with reached(path):
            fsspec.filesystem("abfs")  # Kedro's own datasets find the account in the environment alone


def list_files(folder: str, suffix: str = "") -> dict[str, int]:
    """Give the files of a folder that end so, sorted by name, with sizes in bytes; none if there is no folder."""
    try:
        with reached(folder) as (fs, inner):
            fs.invalidate_cache()
            infos = fs.ls(inner, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    sizes = {PurePosixPath(info["name"]).name: info["size"] for info in infos if info["type"] == "file"}
    return {name: sizes[name] for name in sorted(sizes) if name.endswith(suffix)}


def exists(path: str) -> bool:
    """Tell whether a file or a folder exists."""
    with reached(path) as (fs, inner):
        fs.invalidate_cache()
        return bool(fs.exists(inner))


def state_of(path: str) -> tuple[int, str]:
    """Give a file's size in bytes and a tag that changes with every write; zero and `""` if it does not exist."""
    try:
        with reached(path) as (fs, inner):
            info = fs.info(inner)
    except OSError:
        return 0, ""
    return info["size"], str(info["etag"] if is_remote(path) else Path(path).stat().st_mtime_ns)


def read_bytes(path: str) -> bytes:
    """Read a whole file."""
    if not is_remote(path):
        return Path(path).read_bytes()
    with reached(path) as (fs, inner):
        return bytes(fs.cat_file(inner))


@contextmanager
def on_disk(path: str) -> Iterator[str]:
    """Give a name by which a file can be read: its own, or that of a temporary copy which lasts for the block."""
    if not is_remote(path):
        yield path
        return
    with TemporaryFile(prefix="cygnet-") as copy:
        name = f"/dev/fd/{copy.fileno()}"
        with reached(path) as (fs, inner):
            fs.get_file(inner, name, max_concurrency=MAX_CONNECTIONS)
        copy.seek(0)  # on macOS the name shares the position
        yield name


@contextmanager
def replacing(path: str) -> Iterator[Path]:
    """Give a file to write; if the block ends without an error, it replaces the file at `path`."""
    target = Path(path)
    is_beside = not is_remote(path) and not str(target.absolute()).startswith(VOLUMES)
    if not is_remote(path):
        target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".cygnet-", dir=target.parent if is_beside else None) as folder:
        written = Path(folder, target.name)
        yield written
        if is_beside:
            written.replace(target)
        elif is_remote(path):
            with reached(path) as (fs, inner):
                fs.put_file(str(written), inner, max_concurrency=MAX_CONNECTIONS)
        else:
            partial = target.with_name(Path(folder).name)
            shutil.copyfile(written, partial)
            partial.replace(target)


def append_line(path: str, line: str) -> None:
    """Append a line to a text file; where a file can't be appended to, it is written again as a whole."""
    text = f"{line}\n".encode()
    if is_remote(path) or path.startswith(VOLUMES):
        before = read_bytes(path) if exists(path) else b""
        with replacing(path) as written:
            written.write_bytes(before + text)
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("a+b") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # a writer was killed in the middle of a line
                text = b"\n" + text
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def remove(path: str) -> None:
    """Remove a file or a folder if it exists."""
    with reached(path) as (fs, inner):
        fs.invalidate_cache()
        if fs.exists(inner):
            fs.rm(inner, recursive=True)


def put_folder(source: Path, folder: str) -> None:
    """Copy a folder's files to another folder; a marker, written last, says that it is complete."""
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        with replacing(f"{folder}/{file.relative_to(source).as_posix()}") as written:
            shutil.copyfile(file, written)
    with replacing(f"{folder}/{MARKER}") as written:
        written.touch()


@contextmanager
def folder_on_disk(folder: str) -> Iterator[Path]:
    """Give a folder from which files can be read: itself, or a temporary copy which lasts for the block."""
    if not is_remote(folder):
        yield Path(folder)
        return
    with TemporaryDirectory(prefix="cygnet-") as copy:
        with reached(folder) as (fs, inner):
            for file in fs.find(inner):
                local = Path(copy, PurePosixPath(file).relative_to(inner))
                local.parent.mkdir(parents=True, exist_ok=True)
                fs.get_file(file, str(local), max_concurrency=MAX_CONNECTIONS)
        yield Path(copy)
