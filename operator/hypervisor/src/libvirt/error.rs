//! libvirt's errors as ours.

use virt::error::{ErrorDomain, ErrorNumber};

use super::connection::Connection;
use crate::clean::clean;
use crate::error::Error;

/// What libvirt's error means for whoever was `doing` something with `what`.
pub(super) fn explain(connection: &Connection, doing: &str, what: &str, error: &virt::error::Error) -> Error {
    if !connection.is_alive() {
        return Error::unavailable(doing, error.message());
    }
    classify(doing, what, error)
}

/// The same without a connection to ask.
pub(super) fn classify(doing: &str, what: &str, error: &virt::error::Error) -> Error {
    use ErrorNumber as N;
    let (doing, message) = (doing.to_owned(), clean(error.message()));
    let Some(code) = error.code().known() else {
        return Error::Failed { doing, message };
    };
    match code {
        N::NoDomain => Error::NotFound { what: what.to_owned() },
        N::NoNetwork if what.starts_with("network") => Error::NotFound { what: what.to_owned() },
        N::NoNetwork | N::OperationInvalid => Error::InvalidState { doing, message },
        N::NoConnect | N::InvalidConn | N::Rpc => Error::Unavailable { doing, message },
        N::SystemError | N::InternalError if error.domain().is_any(vec![ErrorDomain::Rpc, ErrorDomain::Remote]) => {
            Error::Unavailable { doing, message }
        }
        N::OperationTimeout | N::ResourceBusy | N::AgentUnresponsive | N::BlockCopyActive => {
            Error::Busy { doing, message }
        }
        N::XmlError
        | N::XmlDetail
        | N::XmlInvalidSchema
        | N::ConfigUnsupported
        | N::InvalidArg
        | N::InvalidMac
        | N::OsType
        | N::CpuIncompatible => Error::Invalid { doing, message },
        N::NoSupport | N::ArgumentUnsupported | N::OperationUnsupported => Error::Unsupported { doing, message },
        N::DomExist | N::NetworkExist => Error::AlreadyExists { doing, message },
        // libvirt has no code for these. The words are its daemon's, which runs untranslated as a service.
        N::OperationFailed | N::InternalError if is_conflict(&message) => Error::AlreadyExists { doing, message },
        N::OperationFailed if message.contains("Active console session") => Error::Busy { doing, message },
        _ => Error::Failed { doing, message },
    }
}

fn is_conflict(message: &str) -> bool {
    [
        "already exists with uuid",
        "is already defined with uuid",
        "already in use",
    ]
    .iter()
    .any(|m| message.contains(m))
}
