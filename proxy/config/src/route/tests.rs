//! Which requests match.
