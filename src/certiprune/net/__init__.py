"""Networks: the graph that bounds and verification work on, and the ways into and out of it."""

from certiprune.net.lower import lower
from certiprune.net.network import Network

__all__ = ["Network", "lower"]
