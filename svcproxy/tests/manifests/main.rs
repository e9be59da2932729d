//! From manifests to the model, as users meet it: what is refused and in which words, what is understood, and that no
//! input whatever makes it stumble.

mod again;
mod cluster_ips;
mod diagnostics;
mod endpoints;
mod given;
mod robustness;
mod rules;
