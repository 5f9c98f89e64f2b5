//! The delta protocol as the control plane sees it.
