//! What is answered to load balancers and probes, over real connections.

mod client;
mod proxy;
mod service;
