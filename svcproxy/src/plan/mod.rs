//! The model to the exact contents wanted in the maps. Pure: no I/O, no kernel.
