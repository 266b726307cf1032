"""Run as a program by several processes at once. Usage: together.py VERB DATASET NUMBER."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

import wkdask as wk


def main(verb: str, place: str, number: int) -> None:
    """Wait until all are there, then do it."""
    Path(place, f"ready-{number}").touch()
    while len(list(Path(place).glob("ready-*"))) < 8:
        time.sleep(0.002)
    if verb == "layers":
        dataset = wk.Dataset(Path(place, "ds"), (1, 1, 1), exist_ok=True)
        for k in range(3):
            dataset.add_layer(f"layer-{number}-{k}", "color", bounding_box=wk.BoundingBox((0, 0, 0), (8, 8, 8))).add_mag(1)
        return
    if verb == "mags":
        shared = wk.Dataset.open(Path(place, "ds")).get_layer("em")
        own = wk.Dataset.open(Path(place, "ds")).add_layer(f"layer-{number}", "color", bounding_box=shared.bounding_box)
        with shared.new_mag(2**number) as mag:
            mag.write(np.full((2, 2, 2), number + 1, "uint8"), absolute_offset=(0, 0, 0), allow_resize=True)
        own.add_mag_as_ref(shared.get_mag(2**number))
        return
    mag = wk.Dataset.open(Path(place, "ds")).get_layer("em").get_mag(1)
    piece = np.full((6, 20, 20), number + 1, "uint8")  # of chunks of 16, so that neighbours share them
    mag.write(piece, absolute_offset=(6 * number, 0, 0), allow_resize=verb == "grow")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
