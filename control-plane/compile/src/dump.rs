//! A snapshot as readable text: every resource under its name, sorted. For golden tests and for
//! people who ask the control plane what it holds.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::resource::{Authorization, Endpoints, Inbound, Service, Workload};
use crate::snapshot::{Name, Snapshot};

/// What is behind an address, on any port.
#[derive(Serialize)]
enum Behind<'a> {
    Service(String),
    Workload(&'a Workload),
}

fn text((namespace, name): &Name) -> String {
    format!("{namespace}/{name}")
}

impl Snapshot {
    fn named_addresses(&self) -> BTreeMap<IpAddr, Behind<'_>> {
        let workloads = self
            .workloads
            .iter()
            .map(|(ip, workload)| (*ip, Behind::Workload(workload)));
        // Inserted last: a service's address is the service's.
        let services = self
            .virtual_addresses
            .iter()
            .map(|(ip, service)| (*ip, Behind::Service(text(service))));
        workloads.chain(services).collect()
    }

    fn named_services(&self) -> BTreeMap<String, &Service> {
        let mut services = BTreeMap::new();
        for (name, views) in self.services.iter() {
            services.insert(text(name), &*views.shared);
            for (client, own) in &views.own {
                services.insert(format!("{}?from={client}", text(name)), own);
            }
        }
        services
    }

    fn named_endpoints(&self) -> BTreeMap<String, &Endpoints> {
        let buckets = self.endpoints.iter().flat_map(|(name, buckets)| {
            let named = buckets.iter().enumerate();
            named.map(move |(nth, bucket)| (format!("{}/{nth}", text(name)), &**bucket))
        });
        buckets.collect()
    }
}

impl Serialize for Snapshot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let inbounds: BTreeMap<String, &Inbound> = self
            .inbounds
            .iter()
            .map(|(name, inbound)| (text(name), &**inbound))
            .collect();
        let authorizations: BTreeMap<String, &Authorization> = self
            .authorizations
            .iter()
            .map(|(name, policy)| (text(name), &**policy))
            .collect();
        let mut fields = serializer.serialize_struct("Snapshot", 6)?;
        fields.serialize_field("mesh_config", &*self.mesh_config)?;
        fields.serialize_field("addresses", &self.named_addresses())?;
        fields.serialize_field("services", &self.named_services())?;
        fields.serialize_field("endpoints", &self.named_endpoints())?;
        fields.serialize_field("inbounds", &inbounds)?;
        fields.serialize_field("authorizations", &authorizations)?;
        fields.end()
    }
}
