//! What follows from the node's network, told as `ip` would show it.

mod addresses;
mod attachment;
mod given;
mod overlap;
mod reach;
