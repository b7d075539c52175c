use virga_crds::Instance;

/// The names of an Instance's volumes, in the order in which its guest sees them: the boot volume, then the others.
pub fn volume_names(instance: &Instance) -> impl Iterator<Item = &str> {
    let boot = instance.spec.boot_volume.as_deref();
    boot.into_iter()
        .chain(instance.spec.volumes.iter().map(|volume| volume.name.as_str()))
}

/// The device as which an Instance's guest sees a volume that the Instance names. While it is rescued, the rescue disk
/// comes before all others.
pub fn device_of(instance: &Instance, volume: &str, rescued: bool) -> String {
    let place = volume_names(instance)
        .position(|name| name == volume)
        .unwrap_or_default();
    // With an image, the root disk comes before all volumes.
    device(place + usize::from(instance.spec.image.is_some()) + usize::from(rescued))
}

/// The device of an Instance's volume: the root disk is `vda`, the volumes follow in the order of `spec.volumes`.
///
/// `vdz` is the seed's, and an Instance has at most 16 volumes, so letters never run out.
pub fn device(place: usize) -> String {
    let letter = u8::try_from(place)
        .ok()
        .and_then(|n| b'a'.checked_add(n))
        .unwrap_or(b'z');
    format!("vd{}", char::from(letter))
}

#[cfg(test)]
mod tests {
    use virga_crds::{ImageRef, InstanceSpec, VolumeAttachment};

    use super::*;

    fn instance() -> Instance {
        let attached = |name: &str| VolumeAttachment { name: name.into() };
        let spec = InstanceSpec {
            volumes: vec![attached("data"), attached("logs")],
            ..InstanceSpec::default()
        };
        Instance::new("web-1", spec)
    }

    #[test]
    fn a_boot_volume_comes_before_the_others() {
        let mut instance = instance();
        instance.spec.boot_volume = Some("root".into());
        assert_eq!(volume_names(&instance).collect::<Vec<_>>(), ["root", "data", "logs"]);
        assert_eq!(device_of(&instance, "root", false), "vda");
        assert_eq!(device_of(&instance, "logs", false), "vdc");
    }

    #[test]
    fn a_root_disk_over_an_image_comes_before_all_volumes() {
        let mut instance = instance();
        instance.spec.image = Some(ImageRef::default());
        assert_eq!(device_of(&instance, "data", false), "vdb");
        assert_eq!(
            device_of(&instance, "data", true),
            "vdc",
            "the rescue disk is the first"
        );
    }

    #[test]
    fn volumes_follow_the_root_disk() {
        assert_eq!(
            (device(0), device(1), device(16)),
            ("vda".into(), "vdb".into(), "vdq".into())
        );
    }
}
