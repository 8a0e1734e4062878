"""Networks: the graph that bounds and verification work on, and the ways into and out of it."""

from certiprune.net.compact import Compaction, compact
from certiprune.net.lower import lower
from certiprune.net.network import Network
from certiprune.net.prunable import prunable

__all__ = ["Compaction", "Network", "compact", "lower", "prunable"]
