//! The contract of network back ends: libvirt networks over the fake hypervisor.

#![allow(
    clippy::unwrap_used,
    reason = "a test may panic; clippy only knows that of functions marked as tests"
)]

mod contract;

use std::sync::Arc;

use contract::{DEADLINE, Setting};
use virga_hypervisor::{Calls, CallsLimits, Error as HypervisorError, Fake, Fault, Hypervisor, Operation};
use virga_network::{Error, LibvirtNetworks, NetworkBackend, NodeNetwork};

fn setup() -> (Fake, LibvirtNetworks) {
    let fake = Fake::new();
    let calls = Calls::new(Arc::new(fake.clone()), CallsLimits::default());
    (fake, LibvirtNetworks::new(calls, DEADLINE))
}

fn set_guest(fake: &Fake, backend: &LibvirtNetworks, network: &NodeNetwork, plugged: bool) {
    let guest = contract::guest(backend, network);
    if plugged {
        fake.define(&guest).unwrap();
        fake.start(guest.uuid).unwrap();
    } else {
        fake.destroy(guest.uuid).unwrap();
        fake.undefine(guest.uuid).unwrap();
    }
}

#[tokio::test]
async fn libvirt_networks_keep_the_contract_on_the_fake() {
    let (fake, backend) = setup();
    contract::contract(&Setting {
        backend: &backend,
        // An update that finds nothing to do writes nothing: the hypervisor's own contract shows that.
        writes: &|| {
            let calls = fake.take_calls();
            Some(
                calls
                    .iter()
                    .filter(|(op, _)| !op.is_read() && *op != Operation::UpdateNetwork)
                    .count(),
            )
        },
        look: &|uid| fake.network(uid).unwrap(),
        set_guest: &|network, plugged| set_guest(&fake, &backend, network, plugged),
        stop: &|uid| fake.stop_network(uid).unwrap(),
    })
    .await;
}

#[tokio::test]
async fn a_lost_connection_is_transient_and_the_next_call_goes_on_where_this_one_stopped() {
    let (fake, backend) = setup();
    let network = contract::network(1);
    let failed = HypervisorError::Failed {
        doing: "starting".to_owned(),
        message: "for the test".to_owned(),
    };
    fake.fail_next(Operation::StartNetwork, 1, &Fault::Error(failed.clone()));
    assert_eq!(backend.ensure(&network).await, Err(Error::Hypervisor(failed)));
    fake.fail_next(Operation::StartNetwork, 1, &Fault::Disconnect);
    let error = backend.ensure(&network).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    fake.restore_connection();
    assert!(backend.ensure(&network).await.unwrap().changed);
    assert!(backend.list().await.unwrap()[0].active);
}

#[tokio::test]
async fn a_network_of_someone_else_is_neither_used_nor_removed() {
    let (fake, backend) = setup();
    let network = contract::network(1);
    fake.add_foreign(network.uid, "theirs");
    assert!(matches!(
        backend.ensure(&network).await,
        Err(Error::Hypervisor(HypervisorError::Foreign { .. }))
    ));
    assert!(matches!(
        backend.remove(network.uid).await,
        Err(Error::Hypervisor(HypervisorError::Foreign { .. }))
    ));
}

#[tokio::test]
async fn a_plug_follows_from_the_names_alone() {
    let (_fake, backend) = setup();
    let plug = backend.plug(
        "0a0b0c0d-0000-4000-8000-000000000001".parse().unwrap(),
        uuid::Uuid::from_u128(7),
    );
    insta::assert_debug_snapshot!(plug, @r#"
    Plug {
        source: Network(
            "virga-0a0b0c0d",
        ),
        alias: "ua-00000000-0000-0000-0000-000000000007",
    }
    "#);
}
