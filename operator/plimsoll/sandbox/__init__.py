"""A whole operator on one machine: a real control plane, simulated nodes, a Hub on loopback."""
