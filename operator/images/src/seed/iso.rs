//! The seed as an ISO 9660 image.

use std::io::Cursor;

use hadris_iso::{
    joliet::JolietLevel,
    read::PathSeparator,
    rrip::RripOptions,
    write::{
        InputEntry, InputTree, IsoImageWriter,
        options::{BaseIsoLevel, CreationFeatures, IsoFormatOptions},
    },
};

use super::{Error, LABEL, SeedFile};

/// Where an image keeps the name of its volume set: the primary volume descriptor is sector 16 (ECMA-119, 8.4.13).
pub(super) const VOLUME_SET: u64 = 16 * 2048 + 190;

/// Builds the image in memory; it is at most about a MiB. `key` becomes the name of the volume set.
pub(super) fn build(files: Vec<SeedFile>, key: &str) -> Result<Vec<u8>, Error> {
    let entries = files
        .into_iter()
        .map(|file| InputEntry::file(file.name, file.contents))
        .collect();
    let options = IsoFormatOptions {
        volume_name: LABEL.to_owned(),
        system_id: None,
        volume_set_id: Some(key.to_owned()),
        publisher_id: None,
        preparer_id: None,
        application_id: None,
        sector_size: 2048,
        path_separator: PathSeparator::ForwardSlash,
        features: CreationFeatures {
            filenames: BaseIsoLevel::Level1 {
                supports_lowercase: false,
                supports_rrip: true,
            },
            // Linux prefers Rock Ridge's names, Windows reads Joliet's. ISO 9660 alone has no `meta-data`.
            rock_ridge: Some(RripOptions {
                preserve_timestamps: false,
                ..RripOptions::default()
            }),
            joliet: Some(JolietLevel::Level3),
            ..CreationFeatures::default()
        },
        // The label must stay in lower case, which the strict character set has not got.
        strict_charset: false,
    };
    let tree = InputTree::new(PathSeparator::ForwardSlash, entries);
    let image =
        IsoImageWriter::create(Cursor::new(Vec::new()), tree, options).map_err(|error| Error::Build(error.into()))?;
    Ok(image.into_inner())
}
