"""The embedded AWS: a real process on this machine that speaks AWS's protocols, for the ``local`` environment."""

from __future__ import annotations

from pik.emulator.demo import demo_state
from pik.emulator.instance import NONCE_VARIABLE, OWNER_VARIABLE, STATE_VARIABLE, running, running_endpoint, state_dir
from pik.emulator.supervisor import EmulatorStatus, Info, down, embedded, last_realism, reset, status, up

__all__ = [
    "NONCE_VARIABLE",
    "OWNER_VARIABLE",
    "STATE_VARIABLE",
    "EmulatorStatus",
    "Info",
    "demo_state",
    "down",
    "embedded",
    "last_realism",
    "reset",
    "running",
    "running_endpoint",
    "state_dir",
    "status",
    "up",
]
