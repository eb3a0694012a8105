"""What the page shows, as a recording for the Rerun viewer: frames, saliency, voltages, currents, accounts.

write_rerun(Path("drive.rrd"), explain(policy, drive), "mine")      # needs the extra `rerun`
rerun drive.rrd                                                     # opens it
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from agents.runs.files import replacing
from agents.runs.ours import MARK
from experiments.console import check_place


def check_rerun(path: Path) -> None:
    """Check before a long run that the recording can be written at its end.

    Raises:
        ModuleNotFoundError: if rerun-sdk is not installed.
        OSError: if the file could not be written.
    """
    import rerun

    del rerun
    if path.is_dir():
        raise IsADirectoryError(21, "is a directory and a file was to be written; give --rerun a file name", str(path))
    check_place(path.parent)


def write_rerun(path: Path, found: dict[str, Any], name: str) -> None:
    """Write it.

    Args:
        path: file, usually `.rrd`.
        found: of `experiments.explain.page.explain`.
        name: of the driver.

    Raises:
        ModuleNotFoundError: if rerun-sdk is not installed.
        OSError: if the file cannot be written.
    """
    import rerun

    units = [f"{node['layer']} {node['id']}" for node in found["circuit"]["nodes"]]
    with replacing(path) as beside:
        stream = rerun.RecordingStream(f"wormwheel {name}")
        stream.save(beside)
        stream.log("made", rerun.TextDocument(MARK), static=True)
        for names, places in ((units, ("states", "time_constants_s")), (list(found["quantities"]), ("quantities",))):
            for place in places if names else ():
                stream.log(place, rerun.SeriesLines(names=names), static=True)
        for number in range(len(found["frames"])):
            stream.set_time("frame", sequence=number)
            stream.set_time("time", duration=found["times_s"][number])
            for place, key in (
                ("seen", "frames"),
                ("saliency/visual_back_prop", "glow"),
                ("saliency/gradient", "slope"),
            ):
                content = base64.b64decode(found[key][number].partition(",")[2])
                stream.log(place, rerun.EncodedImage(contents=content, media_type="image/jpeg"))
            stream.log("steering", rerun.Scalars([found["steering"][number]]))
            if found["quantities"]:
                stream.log("quantities", rerun.Scalars([values[number] for values in found["quantities"].values()]))
            if units:
                stream.log("states", rerun.Scalars(found["states"][number]))
            for place, key in (
                ("time_constants_s", "tau"),
                ("currents/recurrent", "currents"),
                ("currents/sensory", "sensory"),
            ):
                if found[key] is not None:
                    stream.log(place, rerun.Scalars(found[key][number]))
            account = found["accounts"].get(str(number))
            if account is not None:
                words = f"steered {account['steering']:+.3f}, the reference {account['reference']:+.3f}"
                stream.log("account/words", rerun.TextDocument(words))
                stream.log("account/change", rerun.Scalars([account["change"]]))
                stream.log("account/regions", rerun.Tensor(account["regions"], dim_names=("row", "column")))
        stream.flush()
        stream.disconnect()
