"""The supervising process over one scoring worker: that of runs, except that a full log is turned over instead of cut off.

`python -I -S -c "import sys; sys.path.insert(0, ROOT); from foldline.serving.keeper import main; main()"` with the order on stdin.
"""

import os
import sys

from foldline.node.supervise import CHUNK, Supervisor, decode


class Keeper(Supervisor):
    """Keeps `std_log.txt` and, once that is full, the one before it as `std_log.1.txt`."""

    def _pump(self, output: int, once: bool = False) -> bool:
        more = super()._pump(output, once)
        if self.log_room < CHUNK:
            os.replace(f"{self.control}/std_log.txt", f"{self.control}/std_log.1.txt")  # noqa: PTH105  # pathlib costs 10 ms
            os.close(self.log)
            self.log = os.open(f"{self.control}/std_log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self.log_room = int(self.order["log_bytes_max"][0])
        return more


def main() -> None:
    order = decode(sys.stdin.buffer.read()[8:])
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    os._exit(Keeper(order).run())
