//! The contract on the fake.

use virga_hypervisor::testing::contract::{Setting, contract};
use virga_hypervisor::{DomainType, Fake};

#[test]
fn the_fake_keeps_the_contract() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let fake = Fake::new();
    contract(&Setting {
        hypervisor: &fake,
        domain_type: DomainType::Qemu,
        data: data.path().to_owned(),
        add_foreign: &|uuid, name| fake.add_foreign(uuid, name),
        damage_saved: Some(&|uuid, _| fake.damage_saved(uuid)),
        cannot: &[],
    });
}
