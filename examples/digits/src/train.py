"""Learns to read digits: a small neural network over the 8×8 pictures that come with scikit-learn.

Runs as it is on a laptop too (`pip install foldline scikit-learn`, `python train.py`): outside a Foldline run, logging does nothing.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import joblib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import foldline

PIXEL_MAX = 16.0
BATCH = 64
HELD_OUT = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lr", type=float, default=0.01, help="learning rate")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--hidden", type=int, default=48, help="neurons in the hidden layer")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    foldline.log_params({"lr": options.lr, "epochs": options.epochs, "hidden": options.hidden, "seed": options.seed, "batch": BATCH})

    pixels, labels = load_digits(return_X_y=True)
    train_x, rest_x, train_y, rest_y = train_test_split(
        pixels / PIXEL_MAX, labels, test_size=0.3, random_state=options.seed, stratify=labels
    )
    check_x, held_x, check_y, held_y = train_test_split(rest_x, rest_y, test_size=HELD_OUT, random_state=options.seed, stratify=rest_y)
    print(f"{len(train_x)} digits to learn from, {len(check_x)} to check with, {len(held_x)} held out", flush=True)

    model = MLPClassifier(
        hidden_layer_sizes=(options.hidden,),
        solver="sgd",
        learning_rate_init=options.lr,
        batch_size=BATCH,
        random_state=options.seed,
    )
    shuffled = np.random.default_rng(options.seed)
    for epoch in range(1, options.epochs + 1):
        order = shuffled.permutation(len(train_x))
        model.partial_fit(train_x[order], train_y[order], classes=np.arange(10))
        loss = float(log_loss(check_y, model.predict_proba(check_x), labels=np.arange(10)))
        accuracy = float(model.score(check_x, check_y))
        foldline.log_metrics({"loss": loss, "accuracy": accuracy}, step=epoch)
        print(f"epoch {epoch:3}  loss {loss:.4f}  accuracy {accuracy:.4f}", flush=True)

    keep(model, held_x, held_y)


def keep(model: MLPClassifier, held_x: np.ndarray, held_y: np.ndarray) -> None:
    """Writes the model and the digits that it never saw, with its own answers, below outputs/."""
    outputs = Path("outputs")
    (outputs / "model").mkdir(parents=True, exist_ok=True)
    joblib.dump(model, outputs / "model" / "model.joblib")
    predictions = model.predict(held_x)
    content = {"data": (held_x * PIXEL_MAX).tolist(), "labels": held_y.tolist(), "predictions": predictions.tolist()}
    (outputs / "holdout.json").write_text(json.dumps(content))
    right = int((predictions == held_y).sum())
    foldline.log_metric("held_out_accuracy", right / len(held_y))
    print(f"{right} of {len(held_y)} held-out digits right; the model is in outputs/model", flush=True)


if __name__ == "__main__":
    main()
