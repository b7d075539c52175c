//! Does a guest boot from the firmware that its image asks for?

use kube::ResourceExt;
use virga_crds::{Image, Instance};
use virga_e2e::objects::{GUEST as FILE, image, instance, plugged};
use virga_e2e::{Installation, is_ready, on_node, with_temp_namespace};

use crate::{GUEST, await_up, domain_of, given_a_place_for_guests, host, nothing_new_is_left, remains};

#[tokio::test]
async fn a_guest_boots_from_uefi_when_its_image_says_so() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("reads a console on its node") else {
        return;
    };
    with_temp_namespace(&installation.cluster, async |t| {
        let flavor = given_a_place_for_guests(&t, "10.39.0.0/24").await;
        let mut uefi = image("uefi", FILE);
        uefi.spec.properties.insert("hw_firmware_type".into(), "uefi".into());
        t.create(uefi).await;
        t.await_within::<Image>(GUEST, "uefi", "Ready", is_ready).await;
        let before = remains(lab);
        let mut booted = plugged(instance("booted", &flavor), "net");
        if let Some(image) = &mut booted.spec.image {
            image.name = "uefi".into();
        }
        t.create(booted).await;
        let booted = t.await_within::<Instance>(GUEST, "booted", "Ready", is_ready).await;
        let node = host(lab, &booted);
        await_up(&node, &booted, 1).await;

        let domain = domain_of(&booted);
        let xml = on_node::run(&node, &["virsh", "dumpxml", &domain]);
        assert!(xml.contains("firmware='efi'") && xml.contains("type='pflash'"), "{xml}");
        let variables = format!("/var/lib/virga/instances/{}/uefi-variables.fd", booted.uid().unwrap());
        assert!(xml.contains(&variables), "{xml}");
        on_node::run(&node, &["test", "-s", &variables]);

        t.delete::<Instance>(GUEST, "booted").await;
        on_node::run(&node, &["test", "!", "-e", &variables]);
        nothing_new_is_left(lab, &before).await;
    })
    .await;
}
