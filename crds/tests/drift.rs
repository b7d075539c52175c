//! What is committed is what the types say.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use virga_crds::definitions;

/// Helm leaves an object with this annotation alone on uninstall: with the definitions, every object would go.
const KEEP: &str = "/metadata/annotations";

fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn read(file: &Path) -> Value {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Name of the file, and the definition as the types say it is.
fn rendered() -> Vec<(String, Value)> {
    let definitions = definitions::all();
    definitions
        .iter()
        .map(|definition| {
            let yaml = definitions::to_yaml(definition).unwrap();
            let name = format!("{}.yaml", definition.spec.names.plural);
            (name, serde_yaml::from_str(&yaml).unwrap())
        })
        .collect()
}

fn assert_no_other_files(folder: &Path) {
    let expected: BTreeSet<String> = rendered().into_iter().map(|(name, _)| name).collect();
    let found: BTreeSet<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, expected, "{}: run `cargo xtask gen`", folder.display());
}

#[test]
fn the_committed_definitions_are_what_the_types_say() {
    let folder = folder("crds/yaml");
    for (name, definition) in rendered() {
        let committed = read(&folder.join(&name));
        assert!(
            committed == definition,
            "crds/yaml/{name} is stale: run `cargo xtask gen`"
        );
    }
    assert_no_other_files(&folder);
}

#[test]
fn the_chart_s_definitions_are_the_same_and_are_kept_on_uninstall() {
    let folder = folder("charts/virga/templates/crds");
    for (name, definition) in rendered() {
        let mut copy = read(&folder.join(&name));
        assert_eq!(
            copy.pointer(KEEP).and_then(|all| all.get("helm.sh/resource-policy")),
            Some(&Value::from("keep")),
            "{name}"
        );
        copy["metadata"].as_object_mut().unwrap().remove("annotations");
        assert!(copy == definition, "the chart's {name} is stale: run `cargo xtask gen`");
    }
    assert_no_other_files(&folder);
}

#[test]
fn no_definition_looks_like_a_template_to_helm() {
    for (name, definition) in rendered() {
        assert!(!definition.to_string().contains("{{"), "{name}");
    }
}
