//! What goes wrong, on whose request, how often?

use std::time::Duration;

use crate::log::{Request, Verb};

/// A failure to happen to matching requests. Without conditions it matches all, without [`Fault::times`] for ever.
#[derive(Debug, Clone)]
pub struct Fault {
    pub(crate) effect: Effect,
    pub(crate) retry_after: Option<u32>,
    left: Option<usize>,
    verb: Option<Verb>,
    resource: Option<String>,
    subresource: Option<String>,
    name: Option<String>,
    user: Option<String>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Effect {
    Status(u16),
    Delay(Duration),
    Hang,
    Disconnect,
    CommitThenStatus(u16),
    CommitThenHang,
}

impl Fault {
    fn new(effect: Effect) -> Self {
        Self {
            effect,
            retry_after: None,
            left: None,
            verb: None,
            resource: None,
            subresource: None,
            name: None,
            user: None,
        }
    }

    /// Answers with this status code and does nothing.
    pub fn status(code: u16) -> Self {
        Self::new(Effect::Status(code))
    }

    /// Waits, then does as asked: a request that is long on its way.
    pub fn delay(by: Duration) -> Self {
        Self::new(Effect::Delay(by))
    }

    /// Does nothing and never answers.
    pub fn hang() -> Self {
        Self::new(Effect::Hang)
    }

    /// Does nothing and cuts the connection.
    pub fn disconnect() -> Self {
        Self::new(Effect::Disconnect)
    }

    /// Does as asked, but answers with this status code: the caller does not know.
    pub fn commit_then_status(code: u16) -> Self {
        Self::new(Effect::CommitThenStatus(code))
    }

    /// Does as asked, but never answers.
    pub fn commit_then_hang() -> Self {
        Self::new(Effect::CommitThenHang)
    }

    /// Only the next `count` matching requests.
    pub fn times(mut self, count: usize) -> Self {
        self.left = Some(count);
        self
    }

    /// With a `Retry-After` header of so many seconds.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Only requests with this verb.
    pub fn verb(mut self, verb: Verb) -> Self {
        self.verb = Some(verb);
        self
    }

    /// Only requests for this kind, by its plural.
    pub fn resource(mut self, plural: &str) -> Self {
        self.resource = Some(plural.to_owned());
        self
    }

    /// Only requests to this door, such as `status`; empty: only to the object itself.
    pub fn subresource(mut self, name: &str) -> Self {
        self.subresource = Some(name.to_owned());
        self
    }

    /// Only requests for objects of this name.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Only requests of this user.
    pub fn user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    fn matches(&self, request: &Request) -> bool {
        let same =
            |want: &Option<String>, have: Option<&str>| want.as_deref().is_none_or(|want| want == have.unwrap_or(""));
        self.left != Some(0)
            && self.verb.is_none_or(|verb| verb == request.verb)
            && same(&self.resource, Some(&request.resource))
            && same(&self.subresource, request.subresource.as_deref())
            && same(&self.name, request.name.as_deref())
            && same(&self.user, Some(&request.user))
    }
}

/// The first fault that this request meets, counted.
pub(crate) fn strike(faults: &mut Vec<Fault>, request: &Request) -> Option<Fault> {
    let fault = faults.iter_mut().find(|fault| fault.matches(request))?;
    if let Some(left) = &mut fault.left {
        *left -= 1;
    }
    let struck = fault.clone();
    faults.retain(|fault| fault.left != Some(0));
    Some(struck)
}
