//! Who may do what in a pod.
