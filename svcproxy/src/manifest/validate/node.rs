//! Nodes, as far as one of them can be ours: its addresses.

use k8s_openapi::{api::core::v1::Node, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::{Validate, addresses, path};
use crate::manifest::report::Report;

impl Validate for Node {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn validate(&self, report: &mut Report<'_>) {
        let listed = self.status.iter().flat_map(|status| status.addresses.iter().flatten());
        for (index, address) in listed.enumerate() {
            if matches!(address.type_.as_str(), "InternalIP" | "ExternalIP") {
                let at = path::index("status.addresses", index);
                addresses::ip(&path::key(&at, "address"), &address.address, report);
            }
        }
    }
}
