//! The mark that makes a libvirt object ours.

use uuid::Uuid;

use crate::xml::Element;

/// The XML namespace of the metadata element that marks a domain as ours.
pub const DOMAIN_NAMESPACE: &str = "https://virga.dev/xmlns/domain/1";
/// The XML namespace of the metadata element that marks a libvirt network as ours.
pub const NETWORK_NAMESPACE: &str = "https://virga.dev/xmlns/network/1";

/// The Kubernetes object that a libvirt object was made for. Kept in the libvirt object's metadata, so that an agent
/// that starts with an empty memory knows whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The object's namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// The object's UID.
    pub uid: Uuid,
    /// The generation of the spec that the libvirt object was last made from.
    pub generation: i64,
}

impl Owner {
    /// `<virga:instance xmlns:virga="…" namespace="…" name="…" uid="…" generation="…"/>`.
    pub(crate) fn element(&self, local_name: &str, namespace: &str) -> Element {
        self.attributes(Element::new(format!("virga:{local_name}")).attr("xmlns:virga", namespace))
    }

    /// The same without prefix and namespace, as virDomainSetMetadata wants it.
    pub(crate) fn bare_element(&self, local_name: &str) -> Element {
        self.attributes(Element::new(local_name))
    }

    fn attributes(&self, element: Element) -> Element {
        element
            .attr("namespace", &self.namespace)
            .attr("name", &self.name)
            .attr("uid", self.uid.to_string())
            .attr("generation", self.generation.to_string())
    }

    /// Reads the attributes back. `None` when one is missing or malformed: then the object is not ours.
    pub(crate) fn from_element(element: &Element) -> Option<Owner> {
        Some(Owner {
            namespace: element.get("namespace")?.to_owned(),
            name: element.get("name")?.to_owned(),
            uid: element.get("uid")?.parse().ok()?,
            generation: element.get("generation")?.parse().ok()?,
        })
    }
}
