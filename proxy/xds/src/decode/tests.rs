//! What can be read and what cannot.
