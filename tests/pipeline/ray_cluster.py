"""A Ray cluster of two nodes on this machine, with a CPU each: says its address, and ends with its standard input."""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
try:
    cluster.add_node(num_cpus=1)
    print(f"address {cluster.address}", flush=True)
    sys.stdin.read()
finally:
    cluster.shutdown()
