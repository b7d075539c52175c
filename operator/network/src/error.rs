//! What can go wrong, by what the caller can do about it.

/// The result of a back end's call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a network is not as it should be. The message is one line and can go into a condition as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Something else on the host has the address range or the bridge.
    #[error("network {network} can't be on this node: {message}; {cure}")]
    Conflict {
        /// The network, `namespace/name`.
        network: String,
        /// What is in the way.
        message: String,
        /// What an operator can do.
        cure: String,
    },
    /// This back end can't do what the network asks for.
    #[error("network {network} asks for what {backend} networks can't do: {message}; {cure}")]
    Unsupported {
        /// The network, `namespace/name`.
        network: String,
        /// The back end's name.
        backend: &'static str,
        /// What it can't do.
        message: String,
        /// What an operator can do.
        cure: String,
    },
    /// The network can't be right on any back end.
    #[error("network {network} is not valid: {message}")]
    Invalid {
        /// The network, `namespace/name`.
        network: String,
        /// What is wrong.
        message: String,
    },
    /// Guests are plugged in: unplug them first.
    #[error("network {network} has {connections} interfaces of guests plugged in on this node")]
    InUse {
        /// The network, `namespace/name`.
        network: String,
        /// How many interfaces.
        connections: u32,
    },
    /// The hypervisor failed or can't be reached.
    #[error(transparent)]
    Hypervisor(#[from] virga_hypervisor::Error),
}

impl Error {
    /// Whether the same call can succeed later without anyone changing the network.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Conflict { .. } | Error::InUse { .. } => true,
            Error::Unsupported { .. } | Error::Invalid { .. } => false,
            Error::Hypervisor(error) => error.is_transient(),
        }
    }
}
