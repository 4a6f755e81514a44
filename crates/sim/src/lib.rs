//! Simulated worlds: oscillators, networks, servers, adversaries.
