//! Which files are meant, and what is in them? In an order that does not depend on the file system.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// The most files that are read.
const MOST_FILES: usize = 100_000;
/// How deep directories are searched.
const MOST_LEVELS: usize = 32;
/// The largest file.
const MOST_BYTES: u64 = 256 << 20;

/// A path that can't be used, and why.
pub(super) type Unusable = (PathBuf, String);

/// The files that are named, and of directories all below them that end in `.yaml`, `.yml` or `.json`, by name.
pub(super) fn find(paths: &[PathBuf]) -> (Vec<PathBuf>, Vec<Unusable>) {
    let (mut found, mut unusable) = (Vec::new(), Vec::new());
    for path in paths {
        if path.is_dir() {
            let before = found.len();
            walk(path, MOST_LEVELS, &mut found, &mut unusable);
            if found.len() == before && unusable.is_empty() {
                unusable.push((
                    path.clone(),
                    "there is no file that ends in .yaml, .yml or .json".into(),
                ));
            }
        } else {
            found.push(path.clone());
        }
    }
    if found.len() > MOST_FILES {
        unusable.push((
            found[MOST_FILES].clone(),
            format!("there are more than {MOST_FILES} files"),
        ));
        found.clear();
    }
    (found, unusable)
}

fn walk(directory: &Path, levels: usize, found: &mut Vec<PathBuf>, unusable: &mut Vec<Unusable>) {
    if found.len() > MOST_FILES {
        return;
    }
    if levels == 0 {
        unusable.push((
            directory.to_owned(),
            format!("it is more than {MOST_LEVELS} directories deep"),
        ));
        return;
    }
    let entries = fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = match entries {
        Ok(entries) => entries,
        Err(error) => return unusable.push((directory.to_owned(), error.to_string())),
    };
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        // Not following links to directories: they may lead in a circle.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, levels - 1, found, unusable);
        } else if is_manifest(&path) && path.is_file() {
            found.push(path);
        }
    }
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| ["yaml", "yml", "json"].contains(&extension))
}

/// The text of a file, or of standard input for `-`.
pub(super) fn text(path: &Path) -> Result<String, String> {
    if path == Path::new("-") {
        return bounded(io::stdin().lock());
    }
    bounded(File::open(path).map_err(|error| error.to_string())?)
}

fn bounded(source: impl io::Read) -> Result<String, String> {
    let mut bytes = Vec::new();
    let mut source = source.take(MOST_BYTES + 1);
    source.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("it is larger than {} MiB", MOST_BYTES >> 20));
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is no text in UTF-8".to_owned())?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_searched_in_the_order_of_names_and_links_not_followed_in_circles() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("b/c")).unwrap();
        for name in ["z.yaml", "a.yml", "notes.txt", "b/1.json", "b/c/2.yaml"] {
            fs::write(at(name), "").unwrap();
        }
        std::os::unix::fs::symlink(root.path(), at("b/loop")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("b/zero.yaml")).unwrap();
        let (found, unusable) = find(&[root.path().to_owned(), at("notes.txt")]);
        let names: Vec<_> = found
            .iter()
            .map(|path| path.strip_prefix(root.path()).unwrap())
            .collect();
        let names: Vec<_> = names.iter().map(|path| path.display().to_string()).collect();
        assert_eq!(names, ["a.yml", "b/1.json", "b/c/2.yaml", "z.yaml", "notes.txt"]);
        assert!(unusable.is_empty(), "{unusable:?}");
    }

    #[test]
    fn what_is_no_text_or_not_there_is_told() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a.yaml");
        assert!(text(&path).is_err());
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert_eq!(text(&path).unwrap_err(), "it is no text in UTF-8");
        fs::write(&path, "\u{feff}a: 1").unwrap();
        assert_eq!(text(&path).unwrap(), "a: 1");
        assert!(bounded(io::repeat(b'a')).unwrap_err().contains("larger"));
        let (_, unusable) = find(&[root.path().join("a.yaml").parent().unwrap().to_owned()]);
        assert!(unusable.is_empty());
    }
}
