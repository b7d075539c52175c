//! What is left after a crash, and what is made of it.

use super::*;

const LENGTH: u64 = 1024 * 1024;

fn wanted(what: &str) -> Record {
    Record::new(what.to_owned(), "v1".to_owned(), LENGTH, true)
}

fn begun(directory: &Path) -> Result<Begun, Error> {
    match find(Paths::of(&directory.join("disk")), "offer a of node-1")? {
        Found::Partial(begun) => Ok(begun),
        Found::Verified(_) => panic!("verified"),
    }
}

#[test]
fn after_a_power_cut_only_what_was_written_down_is_believed() {
    let directory = tempfile::tempdir().unwrap();
    let mut partial = begun(directory.path()).unwrap().open(wanted("a")).unwrap();
    partial.write(0, &[1; 1000]).unwrap();
    partial.checkpoint().unwrap();
    partial.write(500_000, &[2; 1000]).unwrap();
    let path = partial.paths.partial.clone();
    drop(partial);
    // The disk lost some, and has something else where it was.
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0xff; 5000], 900_000).unwrap();
    let partial = begun(directory.path()).unwrap().open(wanted("a")).unwrap();
    assert_eq!((partial.position(), partial.done()), (1000, 1000));
    let content = fs::read(&path).unwrap();
    assert_eq!(content.len() as u64, LENGTH);
    assert!(content[..1000].iter().all(|byte| *byte == 1));
    assert!(
        content[1000..].iter().all(|byte| *byte == 0),
        "no garbage is left behind"
    );
}

#[test]
fn a_part_of_something_else_or_one_that_is_gone_is_begun_again() {
    let directory = tempfile::tempdir().unwrap();
    for what in ["a", "b"] {
        let mut partial = begun(directory.path()).unwrap().open(wanted(what)).unwrap();
        assert_eq!(partial.position(), 0, "{what}");
        partial.write(0, &[1; 1000]).unwrap();
        partial.checkpoint().unwrap();
    }
    fs::remove_file(directory.path().join("disk.partial")).unwrap();
    let partial = begun(directory.path()).unwrap().open(wanted("b")).unwrap();
    assert_eq!(partial.position(), 0);
}

#[test]
fn a_crash_between_the_journal_and_the_name_is_mended_and_a_foreign_file_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let what = "offer a of node-1";
    let partial = begun(directory.path()).unwrap().open(wanted(what)).unwrap();
    let digest = partial.digest(&Hashing::default()).unwrap();
    let verified = partial.verified(digest).unwrap();
    let paths = verified.paths.clone();
    drop(verified);
    fs::rename(&paths.whole, &paths.partial).unwrap();
    let found = find(paths.clone(), what).unwrap();
    assert!(matches!(found, Found::Verified(verified) if verified.digest == digest));
    assert!(paths.whole.exists() && !paths.partial.exists());
    let other = find(paths.clone(), "offer b of node-1").unwrap_err();
    assert!(matches!(other, Error::OtherTransfer(_)), "{other}");
    fs::remove_file(&paths.whole).unwrap();
    assert!(matches!(find(paths, what), Err(Error::Lost(_))));

    let foreign = directory.path().join("foreign");
    fs::write(&foreign, b"somebody's").unwrap();
    let refused = find(Paths::of(&foreign), what).unwrap_err();
    assert!(matches!(refused, Error::Exists(_)), "{refused}");
    assert_eq!(fs::read(&foreign).unwrap(), b"somebody's");
    assert!(!directory.path().join("foreign.transfer").exists());
}
