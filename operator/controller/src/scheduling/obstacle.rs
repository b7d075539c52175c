//! What keeps an Instance from being placed, whatever the hosts offer?

use virga_crds::conditions::Reason;

/// Something that keeps an Instance from being placed, whatever the hosts offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// The condition's reason.
    pub reason: Reason,
    /// The path of the field.
    pub field: String,
    /// What is wrong, and the cure.
    pub message: String,
    /// The object whose change may help, as in [`virga_scheduler::Event::Appeared`].
    pub waits_for: String,
    /// Whether it can never be right as long as the objects are as they are.
    pub stuck: bool,
}
