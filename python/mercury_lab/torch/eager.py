"""Compiled code runs eagerly while any capture records a step."""

import threading
from typing import Any

import torch


class EagerStance:
    """The stance of the compiler, which all captures share."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.stance: Any = None

    def enter(self) -> None:
        """Forces eager execution until the last user leaves."""
        with self.lock:
            if self.users == 0:
                self.stance = torch.compiler.set_stance("force_eager")
            self.users += 1

    def leave(self) -> None:
        """Restores the stance after the last user."""
        with self.lock:
            self.users -= 1
            if self.users == 0:
                self.stance.__exit__(None, None, None)
                self.stance = None


EAGER = EagerStance()
