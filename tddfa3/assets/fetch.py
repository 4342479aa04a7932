"""Downloading 3DDFA-V3's published assets from the Hugging Face hub, and converting them.

Finished files stay where they are, so a download that was stopped goes on with those it lacks; a
connection that drops is taken up again within a file.
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
    """A file of the hub's repository; ``sha256`` where the hub states it (large files)."""

    path: str
    sha256: str | None

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name


@dataclass(frozen=True)
class Hub:
    """The hub's repository of assets at one ``revision`` (a branch, tag or commit)."""

    endpoint: str | None = None

    def list_files(self, revision: str) -> tuple[str, list[RemoteFile]]:
        """The commit that ``revision`` stands for, and its files. Raises UnavailableError."""
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
        """One file into ``folder``, under its path in the repository. Raises UnavailableError."""
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

        # A call goes on where the one before broke off; older versions of the library leave it to
        # their callers to call again.
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
    """Download 3DDFA-V3's assets and convert them to a bundle at ``dest``.

    The originals go to ``download_folder`` (beside ``dest`` unless named) and can be deleted
    afterwards. ``say`` gets the licence notice and one line per file. The bundle records the commit
    and the sha256 of every original. Raises UnavailableError without a network, AssetError for
    files that are not what the hub states.
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
