//! Guests that leave for another host, and guests that come from one.
//!
//! | question | module |
//! |---|---|
//! | is a guest on its way, so that nothing may start it here? | [`leaving()`] |
//! | which files go, and what becomes of them here? | [`OutgoingLoop`] |
//! | what comes, and how far is it? | [`IncomingLoop`] |
//! | how does what came become an Instance of this host? | [`land`] |
//! | what is left of Migrations that are gone? | [`sweep`] |
//!
//! The guest goes over with its root disk, the one file that is handed over (`virga_transfer::handover`); the other files
//! are copies, and are whole at the target before it asks for the root disk. So the ledger's word on one file is the word
//! on the guest: the source starts it only after `Revoked`, the target only when it is bound there, which the controller
//! does only after `LetGo`.

mod files;
mod incoming;
mod landing;
mod leaving;
mod name;
mod outgoing;
mod receive;
mod sweep;

pub use incoming::IncomingLoop;
pub use landing::land;
pub use leaving::{is_awaited, leaving};
pub use outgoing::OutgoingLoop;
pub use sweep::sweep;
