"""Answers POST {"data": [[64 pixels, 0 to 16], ...]} with {"predictions": [digit, ...]}."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import joblib
import numpy as np

PIXEL_MAX = 16.0
model: Any = None


def init() -> None:
    """Loads the model once, before the first request."""
    global model
    model = joblib.load(next(Path(os.environ["AZUREML_MODEL_DIR"]).rglob("model.joblib")))


def run(raw_data: str) -> dict[str, list[int]]:
    """Scores one request."""
    pixels = np.asarray(json.loads(raw_data)["data"], dtype=float)
    if pixels.ndim != 2 or pixels.shape[1] != 64:
        raise ValueError("`data` must be a list of digits, each of 64 pixels.")
    return {"predictions": [int(digit) for digit in model.predict(pixels / PIXEL_MAX)]}
