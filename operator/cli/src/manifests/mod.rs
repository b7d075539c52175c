//! What do the manifests say? Files in, objects or all that is wrong with them out.
//!
//! Manifests may come from anywhere, so every size is bounded and nothing of them is shown before it was checked or
//! quoted.

mod document;
mod files;
mod kinds;
mod remarks;
mod schema;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Map, Value};

use crate::objects::Objects;
use kinds::Kinds;

/// The most objects that are taken.
const MOST_OBJECTS: usize = 1_000_000;
/// The most faults that are kept.
const MOST_FAULTS: usize = 10_000;
/// The most faults that are shown.
const MOST_SHOWN: usize = 100;

/// What was read.
#[derive(Debug, Default)]
pub struct Manifests {
    /// The objects.
    pub objects: Objects,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Where an object was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    file: Arc<Path>,
    document: usize,
    item: Option<usize>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub at: At,
    /// The path of the field; empty when it is about the whole.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

/// All that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::words::printable(&self.file.display().to_string()))?;
        if self.document > 0 {
            write!(f, ", document {}", self.document)?;
        }
        self.item.map_or(Ok(()), |item| write!(f, ", items[{item}]"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = if self.field.is_empty() { "" } else { ": " };
        let text = format!("{field}{}: {}", self.field, self.message);
        write!(f, "{}{}", self.at, crate::words::printable(&text))
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(
            f,
            "reading the manifests: {count} thing{} wrong",
            if count == 1 { " is" } else { "s are" }
        )?;
        for fault in self.0.iter().take(MOST_SHOWN) {
            write!(f, "\n  {fault}")?;
        }
        match count.saturating_sub(MOST_SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

/// Reads the files and what is below the directories. Objects without a namespace that need one get `namespace`.
pub fn read(paths: &[PathBuf], namespace: &str) -> Result<Manifests, Faults> {
    let (files, unusable) = files::find(paths);
    let mut reading = Reading::new(namespace);
    for (path, message) in unusable {
        let at = At::file(&path);
        reading.wrong(&at, "", message);
    }
    for path in files {
        reading.read_file(&path);
    }
    reading.finish()
}

/// Reads one text as if it were a file of this name.
#[cfg(test)]
pub(crate) fn of_text(name: &str, text: &str) -> Result<Manifests, Faults> {
    let mut reading = Reading::new("default");
    reading.read_text(Path::new(name), text);
    reading.finish()
}

impl At {
    fn file(path: &Path) -> Self {
        Self {
            file: path.into(),
            document: 0,
            item: None,
        }
    }
}

struct Reading<'a> {
    namespace: &'a str,
    kinds: Kinds,
    manifests: Manifests,
    faults: Faults,
    skipped: BTreeMap<String, usize>,
    /// Where each object was read first.
    seen: HashMap<(&'static str, String, String), At>,
}

impl<'a> Reading<'a> {
    fn new(namespace: &'a str) -> Self {
        Self {
            namespace,
            kinds: Kinds::new(),
            manifests: Manifests::default(),
            faults: Faults::default(),
            skipped: BTreeMap::new(),
            seen: HashMap::new(),
        }
    }

    fn wrong(&mut self, at: &At, field: impl Into<String>, message: impl Into<String>) {
        if self.faults.0.len() >= MOST_FAULTS {
            return;
        }
        self.faults.0.push(Fault {
            at: at.clone(),
            field: field.into(),
            message: message.into(),
        });
    }

    fn read_file(&mut self, path: &Path) {
        match files::text(path) {
            Ok(text) => self.read_text(path, &text),
            Err(message) => self.wrong(&At::file(path), "", message),
        }
    }

    fn read_text(&mut self, path: &Path, text: &str) {
        let is_json = path.extension().is_some_and(|extension| extension == "json");
        let documents = if is_json {
            document::of_json(text)
        } else {
            document::of_yaml(text)
        };
        let mut at = At::file(path);
        for (number, value) in documents {
            at.document = number;
            match value {
                Ok(Value::Object(object)) => self.read_document(&at, object),
                Ok(_) => self.wrong(&at, "", "it is no object"),
                Err(message) => self.wrong(&at, "", message),
            }
        }
    }

    /// An object, or a list of objects as `kubectl get -o yaml` prints.
    fn read_document(&mut self, at: &At, mut document: Map<String, Value>) {
        let is_list = document
            .get("kind")
            .and_then(Value::as_str)
            .is_some_and(|kind| kind.ends_with("List"));
        if !is_list {
            return self.read_object(at, document);
        }
        let Some(Value::Array(items)) = document.remove("items") else {
            return self.wrong(at, "items", "must be a list");
        };
        for (number, item) in items.into_iter().enumerate() {
            let at = At {
                item: Some(number),
                ..at.clone()
            };
            match item {
                Value::Object(object) => self.read_object(&at, object),
                _ => self.wrong(&at, "", "it is no object"),
            }
        }
    }

    fn read_object(&mut self, at: &At, object: Map<String, Value>) {
        let text = |field: &str| object.get(field).and_then(Value::as_str);
        let (Some(version), Some(kind)) = (text("apiVersion"), text("kind")) else {
            for field in ["apiVersion", "kind"] {
                if text(field).is_none() {
                    self.wrong(at, field, "is missing, or no text");
                }
            }
            return;
        };
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let Some(known) = self.kinds.find(group, kind) else {
            *self.skipped.entry(format!("{kind} of {version}")).or_default() += 1;
            return;
        };
        if version != kinds::api_version() {
            let message = format!("{version:?} is not known: write {}", kinds::api_version());
            return self.wrong(at, "apiVersion", message);
        }
        let name = known.name;
        let checked = match known.check(object, self.namespace) {
            Ok(checked) => checked,
            Err(faults) => return self.all_wrong(at, faults),
        };
        let key = (name, checked.namespace.clone(), checked.name.clone());
        if let Some(first) = self.seen.get(&key) {
            let message = format!("another {name} has this name: {first}");
            return self.wrong(at, "metadata.name", message);
        }
        if self.seen.len() >= MOST_OBJECTS {
            return self.wrong(at, "", format!("there are more than {MOST_OBJECTS} objects"));
        }
        self.seen.insert(key, at.clone());
        let faults = checked.take(&mut self.manifests);
        self.all_wrong(at, faults);
    }

    fn all_wrong(&mut self, at: &At, faults: Vec<schema::Wrong>) {
        for (field, message) in faults {
            self.wrong(at, field, message);
        }
    }

    fn finish(mut self) -> Result<Manifests, Faults> {
        if !self.faults.0.is_empty() {
            return Err(self.faults);
        }
        if !self.skipped.is_empty() {
            let shown = self.skipped.iter().take(MOST_SHOWN);
            let shown: Vec<String> = shown.map(|(kind, count)| format!("{count} {kind}")).collect();
            let warning = format!(
                "skipped, as they have no say in where Instances go: {}",
                shown.join(", ")
            );
            self.manifests.warnings.push(warning);
        }
        self.manifests
            .warnings
            .extend(remarks::remarks(&self.manifests.objects));
        Ok(self.manifests)
    }
}

#[cfg(test)]
mod tests;
