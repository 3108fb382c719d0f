"""Files wherever they are: on this machine's disk or mounted like it (`/Volumes/...`), or on ADLS at `abfs(s)://`.

ADLS is reached by adlfs with the credentials that the environment holds (`AZURE_STORAGE_*`): on a cluster
`spark_env_vars` sets them from a secret scope, for the driver and the executors alike, so that no credential is ever
passed from one to the other, nor stands in a table, a parameter or a log.

A written file is whole or not there. It is made on a local disk first, and then renamed or uploaded in one put: a file
of fsspec that is written piece by piece is committed also when the writing breaks off. What can be read by its name
alone, as OpenCV does, is copied to a temporary file that has no name: it is gone with the process, even by SIGKILL,
with which Spark ends a worker whose rows nobody wants any more.
"""

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
"""Volumes can't be written at random, which mp4 needs: a file is made elsewhere and copied there."""

MARKER = "_SUCCESS"
MOST_CONNECTIONS = 4
"""Of one transfer, with 4 MiB in each; adlfs would take 128."""

CREDENTIALS = (
    "set AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY, or with AZURE_STORAGE_TENANT_ID, "
    "AZURE_STORAGE_CLIENT_ID and AZURE_STORAGE_CLIENT_SECRET, of somebody who is Storage Blob Data Contributor there"
)


def is_remote(path: str) -> bool:
    """Tell whether a path is on ADLS."""
    return path.startswith(REMOTE)


@contextmanager
def reached(path: str) -> Iterator[tuple[fsspec.AbstractFileSystem, str]]:
    """Give the file system of a path, and the path in it.

    Raises:
        UserError: In the block: the credentials are missing or refused, the container is missing, ADLS can't be
            reached or the connection broke off, or the path has a form that other libraries misread.
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
        raise UserError(sentence) from None  # what was sent may stand in the error


def explain(error: BaseException, path: str = "ADLS") -> str | None:
    """Say in a sentence what went wrong with ADLS, without what the libraries say: it may repeat a signature.

    Returns:
        None, if it is an error of another kind, or a file that is not there.
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
        return f"{path}: ADLS did not do what was asked: it answered {status} ({name})."
    return (
        f"{path}: ADLS can't be reached, or the connection broke off ({name}): check the account's name and the "
        "network, then run it again."
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def check_place(path: str) -> None:
    """Make sure that a place can be reached, whether or not something is there.

    Raises:
        UserError: See `reached`.
    """
    if is_remote(path):
        list_files(path)
        with reached(path):
            fsspec.filesystem("abfs")  # datasets of Kedro's own know no account but the environment's


def list_files(folder: str) -> dict[str, int]:
    """Give the files of a folder by name, with their sizes in bytes; none, if there is no such folder."""
    try:
        with reached(folder) as (fs, place):
            fs.invalidate_cache()
            infos = fs.ls(place, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {PurePosixPath(info["name"]).name: info["size"] for info in infos if info["type"] == "file"}


def exists(path: str) -> bool:
    """Tell whether a file or a folder is there."""
    with reached(path) as (fs, place):
        fs.invalidate_cache()
        return bool(fs.exists(place))


def state_of(path: str) -> tuple[int, str]:
    """Give a file's size in bytes, and what changes when it is written again; zero and nothing, if it is not there."""
    try:
        with reached(path) as (fs, place):
            info = fs.info(place)
    except OSError:
        return 0, ""
    return info["size"], str(info["etag"] if is_remote(path) else Path(path).stat().st_mtime_ns)


def read_bytes(path: str) -> bytes:
    """Read a file whole."""
    if not is_remote(path):
        return Path(path).read_bytes()
    with reached(path) as (fs, place):
        return bytes(fs.cat_file(place))


@contextmanager
def on_disk(path: str) -> Iterator[str]:
    """Give a name by which a file can be read here: its own, or that of a temporary copy, good for the block."""
    if not is_remote(path):
        yield path
        return
    with TemporaryFile(prefix="cygnet-") as copy:
        name = f"/dev/fd/{copy.fileno()}"
        with reached(path) as (fs, place):
            fs.get_file(place, name, max_concurrency=MOST_CONNECTIONS)
        copy.seek(0)  # where the name shares the position, as on macOS
        yield name


@contextmanager
def replacing(path: str) -> Iterator[Path]:
    """Give a file to be written; when the block ends well it is at `path`, in place of what was there."""
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
            with reached(path) as (fs, place):
                fs.put_file(str(written), place, max_concurrency=MOST_CONNECTIONS)
        else:
            partial = target.with_name(Path(folder).name)
            shutil.copyfile(written, partial)
            partial.replace(target)


def remove(path: str) -> None:
    """Remove a file or a folder, if it is there."""
    with reached(path) as (fs, place):
        fs.invalidate_cache()
        if fs.exists(place):
            fs.rm(place, recursive=True)


def put_folder(source: Path, place: str) -> None:
    """Copy a folder's files to a place; a marker that comes last says that all are there."""
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        with replacing(f"{place}/{file.relative_to(source).as_posix()}") as written:
            shutil.copyfile(file, written)
    with replacing(f"{place}/{MARKER}") as written:
        written.touch()


@contextmanager
def folder_on_disk(folder: str) -> Iterator[Path]:
    """Give a folder from which files can be read here: it itself, or a temporary copy, good for the block."""
    if not is_remote(folder):
        yield Path(folder)
        return
    with TemporaryDirectory(prefix="cygnet-") as copy:
        with reached(folder) as (fs, place):
            for file in fs.find(place):
                local = Path(copy, PurePosixPath(file).relative_to(place))
                local.parent.mkdir(parents=True, exist_ok=True)
                fs.get_file(file, str(local), max_concurrency=MOST_CONNECTIONS)
        yield Path(copy)
