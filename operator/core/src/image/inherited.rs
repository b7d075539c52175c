//! What does an image that was made from an Instance have from that?

use virga_crds::Image;

/// Folds into its spec what it has from the Instance, where the spec itself says nothing, or less. Done where Images are
/// read, so that nobody who looks at one can forget it.
pub fn with_inherited(image: &mut Image) {
    let Some(from) = image.status.as_ref().and_then(|status| status.snapshot.as_ref()) else {
        return;
    };
    let spec = &mut image.spec;
    spec.min_disk = spec.min_disk.max(from.min_disk);
    spec.min_memory = spec.min_memory.max(from.min_memory);
    for (name, value) in &from.properties {
        spec.properties.entry(name.clone()).or_insert_with(|| value.clone());
    }
}

#[cfg(test)]
mod tests {
    use virga_crds::{Bytes, ImageSource, ImageSpec, ImageStatus, ImageVisibility, InstanceSource, SnapshotStatus};

    use super::*;

    #[test]
    fn its_own_words_come_first_and_the_larger_bound_holds() {
        let spec = ImageSpec {
            source: ImageSource {
                instance: Some(InstanceSource::default()),
                ..ImageSource::default()
            },
            disk_format: None,
            visibility: ImageVisibility::Private,
            min_disk: Bytes::gib(1),
            min_memory: Bytes::gib(4),
            properties: [("os_distro".to_owned(), "mine".to_owned())].into(),
        };
        let mut image = Image::new("copy", spec);
        let before = image.clone();
        with_inherited(&mut image);
        assert_eq!(image, before);
        image.status = Some(ImageStatus {
            snapshot: Some(SnapshotStatus {
                instance_uid: "u".into(),
                min_disk: Bytes::gib(5),
                min_memory: Bytes::gib(1),
                properties: [
                    ("os_distro".to_owned(), "debian".to_owned()),
                    ("hw_firmware_type".to_owned(), "uefi".to_owned()),
                ]
                .into(),
            }),
            ..ImageStatus::default()
        });
        with_inherited(&mut image);
        assert_eq!(
            (image.spec.min_disk, image.spec.min_memory),
            (Bytes::gib(5), Bytes::gib(4))
        );
        let properties: Vec<_> = image.spec.properties.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(properties, ["hw_firmware_type=uefi", "os_distro=mine"]);
    }
}
