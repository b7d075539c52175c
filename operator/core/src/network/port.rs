use jiff::Timestamp;
use virga_crds::{Port, PortStatus, conditions::Reason};

use super::Purpose;
use crate::{
    carried::Obstacle,
    condition::{Conditions, Progress},
};

/// What the back end says of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortSeen {
    /// A host has plugged it in, and it carries packets.
    Up,
    /// It is known, and no host has plugged it in.
    Down,
    /// It is an address of something that is no guest, or kept for one: no host plugs it in, or nobody says so.
    Held,
    /// It is to be deleted, and an Instance has it still.
    Leaving,
    /// It is not known, or not as it should be.
    Missing {
        /// Why.
        reason: Reason,
        /// The same in words.
        message: String,
    },
}

impl From<Obstacle> for PortSeen {
    fn from(Obstacle { reason, message }: Obstacle) -> Self {
        Self::Missing { reason, message }
    }
}

/// What is to be said of a port, if there is anything to say: a new one that will be up in a moment needs no word.
pub fn port_status(port: &Port, seen: &PortSeen, now: Timestamp) -> Option<PortStatus> {
    let old = port.status.as_ref();
    if *seen == PortSeen::Down && old.is_none() {
        return None;
    }
    let conditions = old.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let mut conditions = Conditions::new(conditions, port.metadata.generation, now);
    match seen {
        PortSeen::Up => conditions.set_ready(Progress::Done, Reason::PortUp, "plugged in, and carries packets"),
        PortSeen::Down => {
            let instance = &port.spec.instance;
            let message = match &port.spec.trunk {
                None => format!("no host has plugged it in: Instance {instance} is off, or starting"),
                Some(trunk) => format!(
                    "no host has plugged its parent in, Port {}: Instance {instance} is off, or starting",
                    trunk.port
                ),
            };
            conditions.set_ready(Progress::Working, Reason::PortDown, message);
        }
        PortSeen::Held => {
            let message = match Purpose::of(port) {
                Some((purpose, holder)) => format!("kept for {} {}/{}", purpose.kind(), holder.namespace, holder.name),
                None if port.spec.instance.is_empty() => "kept for the Instance that names it".to_owned(),
                None => format!("kept for Instance {}, which has it", port.spec.instance),
            };
            conditions.set_ready(Progress::Done, Reason::AddressHeld, message);
        }
        PortSeen::Leaving => {
            let message = format!(
                "in use by Instance {}: it goes when that lets go of it",
                port.spec.instance
            );
            conditions.set_ready(Progress::Working, Reason::InUse, message);
        }
        PortSeen::Missing { reason, message } => conditions.set_ready(Progress::Working, *reason, message),
    }
    Some(PortStatus {
        observed_generation: port.metadata.generation,
        conditions: conditions.into_vec(),
    })
}

#[cfg(test)]
mod tests {
    use virga_crds::PortSpec;

    use super::*;

    #[test]
    fn a_port_that_comes_up_is_told_of_once_and_again_when_it_goes_down() {
        let mut port = Port::new("web-1-front", PortSpec::default());
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(port_status(&port, &PortSeen::Down, now), None);
        port.status = port_status(&port, &PortSeen::Up, now);
        let reason = |status: &Option<PortStatus>| status.as_ref().unwrap().conditions[0].reason.clone();
        assert_eq!(reason(&port.status), "PortUp");
        assert_eq!(port_status(&port, &PortSeen::Up, now), port.status);
        assert_eq!(reason(&port_status(&port, &PortSeen::Down, now)), "PortDown");
    }
}
