"""Downloads 3DDFA-V3's published assets from the Hugging Face hub and converts them.

Completed files are kept, so an interrupted download continues with the missing ones; a dropped
connection is resumed within a file.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from tddfa3.assets import upstream
from tddfa3.assets.bundle import AssetBundle, file_sha256
from tddfa3.assets.bundle_writer import Origin
from tddfa3.assets.convert import LICENCE, NOTICE, convert
from tddfa3.assets.topology import INDICES_FILE
from tddfa3.errors import AssetError, UnavailableError

REPOSITORY = "Zidu-Wang/3DDFA-V3"
FOLDER = "assets"
_ATTEMPTS = 3

_T = TypeVar("_T")


@dataclass(frozen=True)
class RemoteFile:
    """A file of the hub's repository.

    Attributes:
        path: in the repository.
        sha256: hexadecimal, if the hub states it (large files), else None.
    """

    path: str
    sha256: str | None

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return PurePosixPath(self.path).name


@dataclass(frozen=True)
class Hub:
    """The repository of assets on the hub.

    Attributes:
        endpoint: address of a mirror; None for the hub itself.
    """

    endpoint: str | None = None

    def list_files(self, revision: str) -> tuple[str, list[RemoteFile]]:
        """Resolves a branch, tag or commit.

        Returns:
            the commit, and its files.

        Raises:
            UnavailableError: If the hub cannot be asked.
        """
        from huggingface_hub import HfApi

        def request() -> tuple[str, list[RemoteFile]]:
            info = HfApi(endpoint=self.endpoint).dataset_info(
                REPOSITORY, revision=revision, files_metadata=True, timeout=30
            )
            files = [
                RemoteFile(item.rfilename, item.lfs.sha256 if item.lfs else None)
                for item in info.siblings or ()
            ]
            return str(info.sha), files

        return self._ask(f"list the files of {REPOSITORY}", request)

    def download(self, file: RemoteFile, commit: str, folder: Path) -> Path:
        """Downloads a file into ``folder``, under its path in the repository.

        Args:
            file: the file.
            commit: of the repository.
            folder: where to put it.

        Returns:
            the path of the local file.

        Raises:
            UnavailableError: If it cannot be downloaded.
        """
        from huggingface_hub import hf_hub_download

        def request() -> Path:
            path = hf_hub_download(
                REPOSITORY,
                file.path,
                repo_type="dataset",
                revision=commit,
                local_dir=folder,
                endpoint=self.endpoint,
            )
            return Path(path)

        # A call resumes where the previous one stopped; older versions of the library do not retry
        # by themselves.
        for _ in range(_ATTEMPTS - 1):
            with suppress(UnavailableError):
                return self._ask(f"download {file.path}", request)
        return self._ask(f"download {file.path}", request)

    def _ask(self, what: str, request: Callable[[], _T]) -> _T:
        try:
            return request()
        # The hub's library raises errors of several HTTP packages, which change with its version.
        except Exception as error:
            detail = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UnavailableError(
                f"can't {what} from {self.endpoint or 'the Hugging Face hub'}: {detail}; check the "
                "network and run the same command again, which goes on where this one stopped"
            ) from error


def fetch(
    dest: str | Path,
    *,
    revision: str = "main",
    download_folder: str | Path | None = None,
    endpoint: str | None = None,
    say: Callable[[str], None] = print,
) -> AssetBundle:
    """Downloads 3DDFA-V3's assets and converts them to a bundle.

    The bundle records the commit and the SHA-256 of every original.

    Args:
        dest: folder of the bundle.
        revision: branch, tag or commit of the hub's repository.
        download_folder: where the originals go, next to ``dest`` if None; they can be deleted
            afterwards.
        endpoint: address of a mirror of the hub.
        say: called with the licence, the notice and one line per file.

    Returns:
        the bundle.

    Raises:
        UnavailableError: If the hub cannot be reached.
        AssetError: If a file is not what the hub states, or cannot be converted.
    """
    dest = Path(dest)
    folder = Path(download_folder or dest.with_name(f"{dest.name}-download"))
    say(f"Licence: {LICENCE}.")
    say(NOTICE)
    hub = Hub(endpoint)
    commit, files = hub.list_files(revision)
    for file in _wanted(files):
        path = hub.download(file, commit, folder)
        digest = file_sha256(path)
        if file.sha256 is not None and digest != file.sha256:
            raise AssetError(
                f"{path} is not the file that the hub lists (sha256 {digest[:12]}…, expected "
                f"{file.sha256[:12]}…); delete it and run the same command again"
            )
        say(f"{file.name}  {path.stat().st_size:,} bytes  sha256 {digest}")
    origin = Origin(f"Hugging Face dataset {REPOSITORY}, commit {commit}", LICENCE)
    return convert(folder / FOLDER, dest, origin=origin)


def _wanted(files: list[RemoteFile]) -> list[RemoteFile]:
    known = {upstream.FACE_MODEL_NPY, upstream.SIMILARITY_MAT, *upstream.NETWORK_FILES}
    in_folder = [file for file in files if PurePosixPath(file.path).parent == PurePosixPath(FOLDER)]
    wanted = [file for file in in_folder if file.name in known or INDICES_FILE.fullmatch(file.name)]
    missing = known - {file.name for file in wanted}
    required = missing & {upstream.FACE_MODEL_NPY, upstream.SIMILARITY_MAT}
    if required:
        raise AssetError(
            f"the hub's {REPOSITORY} has no {FOLDER}/{', '.join(sorted(required))} at this "
            "revision; name another with --revision"
        )
    return wanted
