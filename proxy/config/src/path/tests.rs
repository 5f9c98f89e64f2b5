//! Every spelling comes down to one.
