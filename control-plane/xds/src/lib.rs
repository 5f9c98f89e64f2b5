//! weft-xds.
