//! The control plane of svcproxy, in the order data flows: [`manifest`] → [`model`] → [`plan`] → `datapath`.
//!
//! Kubernetes types never pass `model`; aya types never leave `datapath`.

pub mod cli;
pub mod conformance;
pub mod datapath;
pub mod health;
pub mod input;
pub mod manifest;
pub mod model;
pub mod network;
pub mod plan;
pub mod state;
pub mod watch;
