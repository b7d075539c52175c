//! libvirt itself: each test has a libvirtd with QEMU of its own, in a namespace of its own.

mod affinity;
mod backup;
mod contract;
mod health;
mod instance;
mod machine;
mod network_hosts;
mod network_ports;
mod reconnect;
mod stage;
