//! Given these maps and this state file, `svcproxy get …` prints this.

mod cluster;
mod endpoints;
mod services;
mod traffic;
