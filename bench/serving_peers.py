"""What `bench.serving` runs with the peers' own Pythons: trains the model, and serves it bare.

    serving_peers.py train FOLDER PORT     model.joblib and MLServer's settings
    serving_peers.py bare FOLDER PORT      an ASGI application under uvicorn that only calls the model
"""
from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-not-found,unused-ignore]  # in the peers' environments only


def train(folder: Path, http_port: int) -> None:
    from sklearn.datasets import load_digits  # type: ignore[import-not-found,unused-ignore]  # as above
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-not-found,unused-ignore]  # as above

    pixels, digits = load_digits(return_X_y=True)
    joblib.dump(LogisticRegression(max_iter=2000).fit(pixels, digits), folder / "model.joblib")
    model = {"name": "digits", "implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": "./model.joblib", "version": "1"}}
    ports = {"http_port": http_port, "grpc_port": http_port + 1, "metrics_port": http_port + 2}
    (folder / "model-settings.json").write_text(json.dumps(model))
    (folder / "settings.json").write_text(json.dumps({**ports, "host": "127.0.0.1", "parallel_workers": 0, "debug": False}))


def bare(folder: Path, port: int) -> None:
    import numpy  # type: ignore[import-not-found,unused-ignore]  # as above
    import uvicorn

    model = joblib.load(folder / "model.joblib")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                event = await receive()
                await send({"type": event["type"] + ".complete"})
                if event["type"] == "lifespan.shutdown":
                    return
        body = b""
        while True:
            event = await receive()
            body += event.get("body", b"")
            if not event.get("more_body"):
                break
        rows = numpy.asarray(json.loads(body)["x"], dtype=float) if body else None
        answer = b"ok" if rows is None else json.dumps({"y": model.predict(rows).tolist()}).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": answer})

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    {"train": train, "bare": bare}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
