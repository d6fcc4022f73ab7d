"""The login of a studio that can be reached from other machines: constant time, and slower after each failure."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field

FREE_FAILURES = 5
LOCKED_S = 60.0


@dataclass
class Login:
    """Gradio asks it (user, password) -> bool. After five failures within a minute everyone waits a minute."""

    expected: tuple[str, str]
    failures: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, user: str, password: str) -> bool:
        with self.lock:
            now = time.monotonic()
            self.failures = [at for at in self.failures if now - at < LOCKED_S]
            if len(self.failures) >= FREE_FAILURES:
                return False
            right = self._same(user, self.expected[0]) & self._same(password, self.expected[1])
            if not right:
                self.failures.append(now)
            return right

    @staticmethod
    def _same(given: str, expected: str) -> bool:
        return secrets.compare_digest(given.encode(), expected.encode())
