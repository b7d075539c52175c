use std::{os::unix::fs::MetadataExt as _, process::Command};

use super::*;

fn seed() -> Seed {
    Seed {
        instance_id: "5f0b1c1e-0000-4000-8000-000000000001".to_owned(),
        hostname: "web-1".to_owned(),
        ssh_keys: vec!["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHVlcmVzb21la2V5 me@host".to_owned()],
        user_data: None,
        metadata: BTreeMap::new(),
        interfaces: Vec::new(),
    }
}

fn with_metadata(pairs: &[(&str, &str)]) -> Seed {
    let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    Seed {
        metadata: pairs.iter().map(own).collect(),
        ..seed()
    }
}

fn interface() -> Interface {
    Interface {
        mac: "FA:16:3E:00:00:01".to_owned(),
        addresses: vec!["10.0.0.5/24".parse().unwrap()],
        routes: vec![Route {
            to: "0.0.0.0/0".parse().unwrap(),
            via: Some("10.0.0.1".parse().unwrap()),
            metric: None,
            on_link: false,
        }],
        mtu: Some(1442),
        nameservers: vec!["10.0.0.2".parse().unwrap()],
        search: vec!["front.shop".to_owned()],
        ..Interface::default()
    }
}

fn file(seed: &Seed, name: &str) -> Option<String> {
    let file = seed.files().unwrap().into_iter().find(|file| file.name == name)?;
    Some(String::from_utf8(file.contents).unwrap())
}

/// The field that the seed is refused for.
fn refused(seed: &Seed) -> String {
    match seed.files() {
        Err(Error::Invalid { field, .. }) => field,
        other => panic!("{other:?}"),
    }
}

fn isoinfo(path: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("isoinfo")
        .arg("-i")
        .arg(path)
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "isoinfo {arguments:?}");
    output.stdout
}

#[test]
fn without_user_data_the_guest_gets_its_name_and_keys_as_cloud_config() {
    let seed = seed();
    assert_eq!(
        file(&seed, "meta-data").unwrap(),
        "instance-id: \"5f0b1c1e-0000-4000-8000-000000000001\"\nlocal-hostname: web-1\npublic-keys:\n\
         - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHVlcmVzb21la2V5 me@host\n"
    );
    assert_eq!(
        file(&seed, "user-data").unwrap(),
        "#cloud-config\nhostname: web-1\nssh_authorized_keys:\n\
         - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHVlcmVzb21la2V5 me@host\n"
    );
    assert_eq!(file(&seed, "vendor-data"), None);
    assert_eq!(file(&seed, "network-config"), None);
}

#[test]
fn user_data_goes_through_byte_for_byte_and_the_keys_move_to_vendor_data() {
    let theirs = b"#!/bin/sh\r\n\0\xff echo hi".to_vec();
    let seed = Seed {
        user_data: Some(theirs.clone()),
        ..seed()
    };
    let files = seed.files().unwrap();
    assert!(files.contains(&SeedFile {
        name: "user-data",
        contents: theirs
    }));
    assert!(
        file(&seed, "vendor-data")
            .unwrap()
            .contains("ssh_authorized_keys:\n- ssh-ed25519")
    );
    let empty = Seed {
        user_data: Some(Vec::new()),
        ..seed
    };
    assert!(file(&empty, "user-data").unwrap().starts_with("#cloud-config\n"));
}

#[test]
fn the_network_is_matched_by_mac_address() {
    let second = Interface {
        mac: "fa:16:3e:00:00:02".to_owned(),
        name: Some("back".to_owned()),
        dhcp4: true,
        ..Interface::default()
    };
    let seed = Seed {
        interfaces: vec![interface(), second],
        ..seed()
    };
    assert_eq!(
        file(&seed, "network-config").unwrap(),
        concat!(
            r#"{"version":2,"ethernets":{"nic00":{"match":{"macaddress":"fa:16:3e:00:00:01"},"dhcp4":false,"#,
            r#""dhcp6":false,"addresses":["10.0.0.5/24"],"routes":[{"to":"0.0.0.0/0","via":"10.0.0.1"}],"mtu":1442,"#,
            r#""nameservers":{"addresses":["10.0.0.2"],"search":["front.shop"]}},"nic01":{"match":{"macaddress":"#,
            r#""fa:16:3e:00:00:02"},"set-name":"back","dhcp4":true,"dhcp6":false}}}"#,
            "\n"
        )
    );
}

/// A VLAN of the card.
fn vlan() -> Interface {
    Interface {
        mac: "FA:16:3E:50:00:10".to_owned(),
        vlan: Some(Vlan {
            link: interface().mac,
            id: 100,
        }),
        dhcp4: true,
        mtu: Some(1400),
        ..Interface::default()
    }
}

#[test]
fn a_vlan_is_made_of_its_card_with_a_mac_address_of_its_own() {
    let told = Seed {
        interfaces: vec![vlan(), interface()],
        ..seed()
    };
    let config = file(&told, "network-config").unwrap();
    assert!(config.starts_with(r#"{"version":2,"ethernets":{"nic00":{"match":{"macaddress":"fa:16:3e:00:00:01"},"#));
    assert!(
        config.ends_with(concat!(
            r#"}},"vlans":{"nic00.100":{"id":100,"link":"nic00","macaddress":"fa:16:3e:50:00:10","dhcp4":true,"#,
            r#""dhcp6":false,"mtu":1400}}}"#,
            "\n"
        )),
        "{config}"
    );
    // It may have its card's own address, and each card has the tag once.
    let of = |link: &str, id| Interface {
        vlan: Some(Vlan {
            link: link.to_owned(),
            id,
        }),
        mac: interface().mac,
        ..Interface::default()
    };
    let refuses = |interfaces: &[Interface]| {
        let interfaces = [&[interface()], interfaces].concat();
        refused(&Seed { interfaces, ..seed() })
    };
    let card = interface().mac;
    for (interfaces, field) in [
        (vec![of(&card, 0)], "interfaces[1].vlan.id"),
        (vec![of(&card, 4095)], "interfaces[1].vlan.id"),
        (vec![of("fa:16:3e:00:00:02", 1)], "interfaces[1].vlan.link"),
        (vec![of(&card, 1), of(&card, 1)], "interfaces[2].vlan"),
    ] {
        assert_eq!(refuses(&interfaces), field);
    }
    let interfaces = vec![interface(), of(&card, 1), of(&card, 4094)];
    assert!(Seed { interfaces, ..seed() }.files().is_ok());
}

/// The whole of the meta data, as something that knows nothing of how it was written reads it.
fn read_back(seed: &Seed) -> serde_yaml::Value {
    serde_yaml::from_str(&file(seed, "meta-data").unwrap()).unwrap()
}

#[test]
fn metadata_is_in_the_meta_data_where_openstack_has_it() {
    let seed = with_metadata(&[("tier", "database"), ("app.kubernetes.io/name", "shop")]);
    let text = file(&seed, "meta-data").unwrap();
    assert!(
        text.ends_with("\nmeta:\n  app.kubernetes.io/name: shop\n  tier: database\n"),
        "{text}"
    );
    assert_eq!(read_back(&seed)["meta"]["tier"], "database");
    assert_eq!(read_back(&with_metadata(&[])).get("meta"), None);
}

#[test]
fn metadata_of_any_characters_comes_out_as_it_went_in_and_touches_nothing_else() {
    let long = "\u{1F600}".repeat(MAX_METADATA_KEY);
    let hostile = [
        ("instance-id", "i-other"),
        ("<<", "{local-hostname: other}"),
        ("a\nlocal-hostname: other\nb", "x\n---\ninstance-id: other"),
        (
            "\" : { [ ] } # & * ! | > ' % @ `",
            "\\\" }\u{0}\u{7f}\u{85}\u{2028}\u{feff}\t",
        ),
        (" ", ""),
        ("?", "- a"),
        ("yes", "no"),
        ("null", "~"),
        ("1e3", "2001-01-01"),
        (&long, &"\u{1F600}".repeat(MAX_METADATA_VALUE)),
    ];
    let seed = with_metadata(&hostile);
    let read = read_back(&seed);
    let keys: Vec<&str> = read
        .as_mapping()
        .unwrap()
        .keys()
        .filter_map(|key| key.as_str())
        .collect();
    assert_eq!(keys, ["instance-id", "local-hostname", "public-keys", "meta"]);
    assert_eq!(read["instance-id"], seed.instance_id.as_str());
    assert_eq!(read["local-hostname"], "web-1");
    let meta: BTreeMap<String, String> = serde_yaml::from_value(read["meta"].clone()).unwrap();
    assert_eq!(meta, seed.metadata);
    assert!(file(&seed, "meta-data").unwrap().is_ascii());
}

#[test]
fn what_could_break_out_of_its_line_is_refused() {
    let with_key = |key: &str| Seed {
        ssh_keys: vec![seed().ssh_keys[0].clone(), key.to_owned()],
        ..seed()
    };
    assert_eq!(refused(&with_key("ssh-rsa AAAA\nssh-rsa EVIL")), "ssh_keys[1]");
    assert_eq!(refused(&with_key("ssh-rsa AAAA\u{7f}")), "ssh_keys[1]");
    assert_eq!(refused(&with_key(" ")), "ssh_keys[1]");
    assert_eq!(refused(&with_key(&"a".repeat(MAX_SSH_KEY + 1))), "ssh_keys[1]");
    for hostname in ["", "a b", "a\nb", "-a", "a-", "a..b", "ü", &"a".repeat(64)] {
        assert_eq!(
            refused(&Seed {
                hostname: hostname.to_owned(),
                ..seed()
            }),
            "hostname",
            "{hostname}"
        );
    }
    for instance_id in ["", "a\nb", "a b", &"a".repeat(129)] {
        assert_eq!(
            refused(&Seed {
                instance_id: instance_id.to_owned(),
                ..seed()
            }),
            "instance_id",
            "{instance_id}"
        );
    }
    let with = |interface| Seed {
        interfaces: vec![interface],
        ..seed()
    };
    for mac in [
        "",
        "fa:16:3e:00:00",
        "fa:16:3e:00:00:0g",
        "fa-16-3e-00-00-01",
        "fa:16:3e:00:0:001",
    ] {
        assert_eq!(
            refused(&with(Interface {
                mac: mac.to_owned(),
                ..interface()
            })),
            "interfaces[0].mac",
            "{mac}"
        );
    }
    let named = |name: &str| {
        with(Interface {
            name: Some(name.to_owned()),
            ..interface()
        })
    };
    assert_eq!(refused(&named("a/b")), "interfaces[0].name");
    assert_eq!(
        refused(&with(Interface {
            mtu: Some(1),
            ..interface()
        })),
        "interfaces[0].mtu"
    );
    assert_eq!(
        refused(&with(Interface {
            search: vec!["a b".to_owned()],
            ..interface()
        })),
        "interfaces[0].search"
    );
    assert_eq!(
        refused(&Seed {
            interfaces: vec![interface(), interface()],
            ..seed()
        }),
        "interfaces[1].mac"
    );
}

#[test]
fn all_is_bounded() {
    assert!(
        Seed {
            user_data: Some(vec![b'a'; MAX_USER_DATA]),
            ..seed()
        }
        .iso()
        .is_ok()
    );
    assert_eq!(
        refused(&Seed {
            user_data: Some(vec![0; MAX_USER_DATA + 1]),
            ..seed()
        }),
        "user_data"
    );
    assert_eq!(
        refused(&Seed {
            ssh_keys: vec!["k".to_owned(); MAX_SSH_KEYS + 1],
            ..seed()
        }),
        "ssh_keys"
    );
    let key = |n: usize| format!("{n:0MAX_METADATA_KEY$}");
    let full = |entries: usize| Seed {
        metadata: (0..entries)
            .map(|n| (key(n), "\u{1F600}".repeat(MAX_METADATA_VALUE)))
            .collect(),
        ..seed()
    };
    assert!(full(MAX_METADATA).iso().unwrap().len() < 1024 * 1024);
    assert_eq!(refused(&full(MAX_METADATA + 1)), "metadata");
    assert_eq!(refused(&with_metadata(&[("", "a")])), "metadata");
    assert_eq!(
        refused(&with_metadata(&[(&"k".repeat(MAX_METADATA_KEY + 1), "a")])),
        "metadata"
    );
    assert_eq!(
        refused(&with_metadata(&[("k", &"v".repeat(MAX_METADATA_VALUE + 1))])),
        "metadata[\"k\"]"
    );
    assert_eq!(
        refused(&Seed {
            interfaces: vec![interface(); MAX_INTERFACES + 1],
            ..seed()
        }),
        "interfaces"
    );
}

#[test]
fn the_key_names_the_content_and_nothing_else() {
    let key = seed().key().unwrap();
    assert_eq!(seed().key().unwrap(), key);
    assert_ne!(
        Seed {
            hostname: "web-2".to_owned(),
            ..seed()
        }
        .key()
        .unwrap(),
        key
    );
    assert_ne!(with_metadata(&[("tier", "web")]).key().unwrap(), key);
    assert_ne!(
        Seed {
            user_data: Some(b"a".to_vec()),
            ..seed()
        }
        .key()
        .unwrap(),
        key
    );
    assert_ne!(
        Seed {
            interfaces: vec![interface()],
            ..seed()
        }
        .key()
        .unwrap(),
        key
    );
}

#[test]
fn the_image_has_the_label_and_the_files_that_cloud_init_looks_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("seed.iso");
    let user_data: Vec<u8> = (0..MAX_USER_DATA).map(|index| index.to_le_bytes()[0]).collect();
    let seed = Seed {
        user_data: Some(user_data.clone()),
        interfaces: vec![interface()],
        ..seed()
    };
    assert!(seed.write(&path).unwrap());

    let description = String::from_utf8(isoinfo(&path, &["-d"])).unwrap();
    assert!(description.contains("Volume id: cidata\n"), "{description}");
    assert!(description.contains("Joliet with UCS level 3"), "{description}");
    assert!(description.contains("Rock Ridge"), "{description}");
    for names in ["-R", "-J"] {
        let listing = String::from_utf8(isoinfo(&path, &[names, "-f"])).unwrap();
        let mut found: Vec<_> = listing.lines().collect();
        found.sort_unstable();
        assert_eq!(
            found,
            ["/meta-data", "/network-config", "/user-data", "/vendor-data"],
            "{names}"
        );
        for file in seed.files().unwrap() {
            let contents = isoinfo(&path, &[names, "-x", &format!("/{}", file.name)]);
            assert!(contents == file.contents, "{names} {}", file.name);
        }
    }
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o600);
    assert!(
        metadata.len().is_multiple_of(2048) && metadata.len() < 256 * 1024,
        "{}",
        metadata.len()
    );
    // Our own inspection, which judges what tenants bring, agrees that it is a whole ISO image.
    let found = crate::inspect::inspect(&mut File::open(&path).unwrap(), None).unwrap();
    assert_eq!(
        found.detail,
        crate::inspect::Detail::Raw {
            layout: crate::inspect::Layout::Iso9660
        }
    );
}

#[test]
fn a_seed_is_written_again_only_when_its_content_changed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("seed.iso");
    assert!(seed().write(&path).unwrap());
    let inode = std::fs::metadata(&path).unwrap().ino();
    assert!(!seed().write(&path).unwrap());
    assert_eq!(std::fs::metadata(&path).unwrap().ino(), inode);
    assert!(
        Seed {
            hostname: "web-2".to_owned(),
            ..seed()
        }
        .write(&path)
        .unwrap()
    );
    std::fs::write(&path, b"garbage").unwrap();
    assert!(seed().write(&path).unwrap());
    assert_eq!(
        std::fs::read_dir(directory.path()).unwrap().count(),
        1,
        "no temporary file is left"
    );
}

#[test]
fn what_debug_prints_holds_no_user_data_and_no_metadata() {
    let seed = Seed {
        user_data: Some(b"password".to_vec()),
        ..with_metadata(&[("key", "password")])
    };
    assert!(!format!("{seed:?}").contains("password"));
    assert!(!format!("{seed:?}").contains("112, 97"));
}
