//! A network in a box: a client, a node and pods as network namespaces, with real servers and clients in them.
//!
//! ```text
//!  client ──────────── eth0 node ┬──────── kubia-… 10.244.0.11  fd00:10:244::11
//!  10.0.0.2  fd00:a::2           ├──────── kubia-… 10.244.0.12  fd00:10:244::12
//!                                ├──────── kubia-… 10.244.0.13  fd00:10:244::13
//!                                └ eth1 ── remote  10.1.0.2     fd00:b::2        (where asked for)
//! ```
//!
//! [`topology`] describes it, [`lab`] builds it, [`beyond`] adds to it what is further away, [`server`] runs in the pods, [`client`] asks them, [`probe`] finds out
//! what becomes of those who ask, [`daemon`] runs svcproxy in the node, and
//! [`leftovers`] removes all of it again whatever happens. [`demo`] is what `cargo xtask demo` shows; the tests are in
//! `tests/e2e`. Nothing here touches an interface, route or setting outside the lab's own namespaces.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod beyond;
pub mod client;
pub mod daemon;
pub mod demo;
pub mod examples;
pub mod lab;
pub mod leftovers;
pub mod manifest;
pub mod namespace;
pub mod payload;
pub mod probe;
pub mod server;
pub mod topology;

use std::{env, path::PathBuf};

use anyhow::{Context, Result, bail};

/// The executable `name` of the same build: beside this one, or one directory up from a test.
pub fn built_executable(name: &str) -> Result<PathBuf> {
    let own = env::current_exe().context("cannot find the own executable")?;
    let found = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file());
    match found {
        Some(file) => Ok(file),
        None => bail!("there is no {name} beside {}: run `cargo build` first", own.display()),
    }
}
