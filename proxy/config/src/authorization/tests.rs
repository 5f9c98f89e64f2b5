//! What conditions mean, and that the unknown never widens access.
