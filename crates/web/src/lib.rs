//! The HTTP side of the control plane: API and metrics.
