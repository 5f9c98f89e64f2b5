//! Round trips, damage, and whose it is.
