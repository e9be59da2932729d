//! The `svcproxy` command.

fn main() {}
