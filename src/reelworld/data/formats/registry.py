"""Table of file formats.

A further format is one module with a reader and one entry of ``FORMATS``.
"""

from __future__ import annotations

from reelworld.data.formats import episode_folder, hdf5, npz, robonet, video
from reelworld.data.formats.reader import Contents, FileRequest, Format

FORMATS = (
    Format(name="episode of this package", endings=(".npz",), read=episode_folder.read_plain),
    Format(name="other .npz", endings=(".npz",), read=npz.read),
    Format(name="RoboNet", endings=hdf5.ENDINGS, read=robonet.read),
    Format(name="HDF5 of videos", endings=hdf5.ENDINGS, read=hdf5.read),
    Format(name="video", endings=video.ENDINGS, read=video.read),
)
"""The first format that has a file's ending and accepts the file reads it."""
ENDINGS = tuple(dict.fromkeys(ending for f in FORMATS for ending in f.endings))


def read_file(request: FileRequest) -> Contents:
    """Read any recording that is not in a folder of ours; files that need decoding are decoded once, into the cache.

    Raises:
        Unreadable: If the file is truncated or corrupt.
        UserError: If it cannot be read as asked.
    """
    ending = request.path.suffix.lower()
    results = (f.read(request) for f in FORMATS if ending in f.endings)
    return next(contents for contents in results if contents is not None)
