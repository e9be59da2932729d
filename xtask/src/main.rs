//! The contributor's one door.

fn main() {}
