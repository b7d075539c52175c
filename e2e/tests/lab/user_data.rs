//! What is a guest told beside its name and keys? User data from a Secret, the user's metadata, and a password.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};
use virga_crds::{Instance, SecretKeyRef, UserData};
use virga_e2e::objects::{instance, plugged};
use virga_e2e::{Installation, eventually, is_ready, on_node, ready_because, with_temp_namespace};

use crate::{GUEST, given_a_place_for_guests, host, inside, nothing_new_is_left, remains};

const SECRET: &str = "7c1e-is-known-to-two";

/// A password that a shell would not leave as it is.
const PASSWORD: &str = "b0:th$HOME ends:";

/// Prints what nobody but the guest and the Secret's owner should know, and the meta data of its seed.
fn script() -> String {
    format!("#!/bin/sh\necho 'secret: {SECRET}'\nsed 's/^/seed: /' /run/seed/meta-data\n")
}

/// The meta data that the script printed, as a guest reads it: whether YAML wants quotes depends on the UID.
fn seed(console: &str) -> Value {
    let text: Vec<&str> = on_node::marked(console, "seed: ").collect();
    serde_yaml::from_str(&text.join("\n")).unwrap()
}

fn secret(name: &str) -> Secret {
    let mut secret = Secret::default();
    secret.metadata.name = Some(name.into());
    secret.data = Some(BTreeMap::from([
        ("userData".to_owned(), ByteString(script().into_bytes())),
        ("password".to_owned(), ByteString(PASSWORD.as_bytes().to_vec())),
    ]));
    secret
}

/// Says so when the hash that the guest keeps is the password's.
fn has_password() -> String {
    format!(
        "kept=$(sed -n 's/^root:\\([^:]*\\):.*/\\1/p' /etc/passwd); salt=$(echo \"$kept\" | cut -d'$' -f3); \
         [ \"$kept\" = \"$(printf %s '{PASSWORD}' | mkpasswd -m sha512 -S \"$salt\" -P 0)\" ] && echo PASSWORD-IS-SET"
    )
}

#[tokio::test]
async fn what_a_secret_and_the_metadata_hold_is_known_in_the_guest() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("reads a console on its node") else {
        return;
    };
    with_temp_namespace(&installation.cluster, async |t| {
        let flavor = given_a_place_for_guests(&t, "10.37.0.0/24").await;
        let before = remains(lab);
        let mut told = plugged(instance("told", &flavor), "net");
        told.spec.user_data = Some(UserData {
            inline: None,
            secret_ref: Some(SecretKeyRef {
                name: "init".into(),
                key: "userData".into(),
            }),
        });
        told.spec.metadata = BTreeMap::from([
            ("tier".to_owned(), "database".to_owned()),
            ("local-hostname".to_owned(), "x\nlocal-hostname: other".to_owned()),
        ]);
        t.create(told).await;
        // The Secret may come later: until then it is said what is missing, and where.
        t.await_condition::<Instance>(
            "told",
            "UserDataNotFound",
            ready_because(
                "UserDataNotFound",
                "spec.userData.secretRef: there is no Secret \"init\"",
            ),
        )
        .await;
        t.create(secret("init")).await;
        let told = t.await_within::<Instance>(GUEST, "told", "Ready", is_ready).await;

        let (node, uid) = (host(lab, &told), told.uid().unwrap());
        let console = eventually("its user data has run", GUEST, async || {
            let console = on_node::console(&node, &uid);
            let ran = console.contains("GUEST-USER-DATA exit=0") && console.contains("GUEST-READY host=told ");
            ran.then_some(console.clone()).ok_or(console)
        })
        .await;
        let secret = format!("secret: {SECRET}");
        assert!(console.lines().any(|line| line.trim_end() == secret), "{console}");
        assert_eq!(
            seed(&console),
            json!({
                "instance-id": uid,
                "local-hostname": "told",
                "meta": { "tier": "database", "local-hostname": "x\nlocal-hostname: other" },
            }),
            "{console}",
        );
        let at = json!({"at": Timestamp::now(), "secretRef": {"name": "init"}});
        t.patch::<Instance>("told", json!({"spec": {"adminPassword": at}}))
            .await;
        inside::says(&node, &told, &has_password(), "PASSWORD-IS-SET").await;
        // Only the Secret and the guest have them.
        let everything = ["get", "instances,ports,events", "--output=yaml", "--namespace"];
        let everything = t.cluster.kubectl(&[&everything[..], &[&t.namespace]].concat());
        assert!(!everything.contains(SECRET), "{everything}");
        assert!(!everything.contains(PASSWORD), "{everything}");
        t.delete::<Instance>(GUEST, "told").await;
        nothing_new_is_left(lab, &before).await;
    })
    .await;
}
