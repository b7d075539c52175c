//! What was asked, by whom, and what came of it.

use std::fmt;

use jiff::Timestamp;
use serde_json::Value;

/// What a request does, in RBAC's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Reads one object.
    Get,
    /// Reads all of a kind.
    List,
    /// Follows changes.
    Watch,
    /// Makes an object.
    Create,
    /// Replaces an object.
    Update,
    /// Changes a part of an object.
    Patch,
    /// Deletes an object.
    Delete,
    /// Deletes many objects.
    DeleteCollection,
}

impl Verb {
    /// As in a Role.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }

    /// Whether it may change something.
    pub fn writes(self) -> bool {
        !matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

/// A request that a client sent.
#[derive(Debug, Clone)]
pub struct Request {
    /// When it came, by the server's clock.
    pub at: Timestamp,
    /// Who sent it.
    pub user: String,
    /// What it does.
    pub verb: Verb,
    /// The API group; empty for the core group.
    pub group: String,
    /// The kind's plural.
    pub resource: String,
    /// `status` or another door of the object.
    pub subresource: Option<String>,
    /// The namespace, if it names one.
    pub namespace: Option<String>,
    /// The object's name, if it names one.
    pub name: Option<String>,
    /// The field manager it gave.
    pub field_manager: Option<String>,
    /// Its body as JSON; null if it had none.
    pub body: Value,
    /// The status code of the answer; 0 while there is none.
    pub code: u16,
    /// Whether it changed what is stored.
    pub changed: bool,
    /// Whether it made a new object (a create, or an apply that needs `create` as well).
    pub created: bool,
}

impl Request {
    /// The resource as in a Role: `instances` or `instances/status`.
    pub fn role_resource(&self) -> String {
        match &self.subresource {
            Some(subresource) => format!("{}/{subresource}", self.resource),
            None => self.resource.clone(),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb.as_str(), self.role_resource())?;
        match (&self.namespace, &self.name) {
            (Some(namespace), Some(name)) => write!(f, " {namespace}/{name}")?,
            (Some(namespace), None) => write!(f, " in {namespace}")?,
            (None, Some(name)) => write!(f, " {name}")?,
            (None, None) => {}
        }
        write!(f, " by {}", self.user)?;
        if let Some(manager) = &self.field_manager {
            write!(f, " as {manager}")?;
        }
        write!(f, " -> {}", self.code)?;
        if self.changed { write!(f, " changed") } else { Ok(()) }
    }
}
