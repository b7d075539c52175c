//! How does what came from another host become an Instance of this one? It is put where Instances are, when the
//! Instance is bound here and not before.

use std::{fs, io, path::Path};

use uuid::Uuid;
use virga_images::durable;

use super::name::Name;
use crate::layout::Layout;

/// Puts an Instance's files in their place, if they have come and are this host's. Nothing that is there is overwritten.
///
/// The caller knows that the Instance is bound to this host. Returns whether something was put.
pub async fn land(layout: &Layout, uid: Uuid) -> io::Result<bool> {
    let layout = layout.clone();
    let landed = tokio::task::spawn_blocking(move || put(&layout, uid)).await;
    landed.unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
}

fn put(layout: &Layout, uid: Uuid) -> io::Result<bool> {
    let mut landed = false;
    for entry in fs::read_dir(layout.incoming())? {
        let name = entry?.file_name();
        let name = name
            .to_str()
            .and_then(|name| Name::parse(name.strip_prefix("instance-")?));
        let Some(name) = name.filter(|name| name.instance == uid) else {
            continue;
        };
        let came = name.directory(layout);
        let files = layout.instance(uid);
        if !is_ours(&came) || files.root_disk().exists() {
            continue;
        }
        match fs::remove_dir_all(files.directory()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::rename(&came, files.directory())?;
        durable::sync_directory(&layout.instances())?;
        durable::sync_directory(&layout.incoming())?;
        tracing::info!(%uid, "an Instance has come from another host");
        landed = true;
    }
    Ok(landed)
}

/// Whether the root disk has come and the source has let go of it: then there is no journal any more.
pub(super) fn is_ours(directory: &Path) -> bool {
    directory.join("root.qcow2").exists() && !directory.join("root.qcow2.transfer").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_yet_stays_and_what_is_ours_overwrites_nothing() {
        let data = tempfile::tempdir().unwrap();
        let layout = Layout::new(data.path());
        layout.create().unwrap();
        let uid = Uuid::from_u128(7);
        let came = layout.incoming().join(format!("instance-{uid}-1b4e28ba"));
        fs::create_dir(&came).unwrap();
        fs::write(came.join("root.qcow2"), "new").unwrap();
        fs::write(came.join("root.qcow2.transfer"), "").unwrap();
        assert!(!put(&layout, uid).unwrap(), "the source may own it");
        fs::remove_file(came.join("root.qcow2.transfer")).unwrap();
        assert!(!put(&layout, Uuid::from_u128(8)).unwrap());

        let files = layout.instance(uid);
        fs::create_dir(files.directory()).unwrap();
        fs::write(files.root_disk(), "old").unwrap();
        assert!(!put(&layout, uid).unwrap(), "there is a disk");
        fs::remove_file(files.root_disk()).unwrap();
        fs::write(files.topology(), "a note").unwrap();
        assert!(put(&layout, uid).unwrap());
        assert_eq!(fs::read(files.root_disk()).unwrap(), b"new");
        assert!(!came.exists() && !files.topology().exists());
        assert!(!put(&layout, uid).unwrap(), "once is enough");
    }
}
