//! What the documentation shows is what the API takes: every example is read into the types, and has no field that they
//! don't know. Links between pages lead somewhere.

use std::fs;
use std::path::{Path, PathBuf};

use kube::ResourceExt as _;
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::Value;
use virga_crds::{
    AddressGroup, Flavor, FloatingIP, GROUP, HostAggregate, Hypervisor, Image, Instance, LoadBalancer, Migration,
    Network, Port, Project, Router, SecurityGroup, ServerGroup, VERSION, Volume, definitions,
};

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files below a folder with this ending.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.extension().is_some_and(|found| found == ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn pages() -> Vec<PathBuf> {
    let mut pages = files(&checkout().join("docs"), "md");
    pages.push(checkout().join("README.md"));
    pages.push(checkout().join("e2e/lab/README.md"));
    pages
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The contents of a page's fenced blocks of this language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(found) = line.trim().strip_prefix("```") else {
            continue;
        };
        let block: Vec<&str> = lines.by_ref().take_while(|line| line.trim() != "```").collect();
        if found == language {
            blocks.push(block.join("\n"));
        }
    }
    blocks
}

/// Paths of the fields that a schema doesn't have.
fn unknown(value: &Value, schema: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) if schema.get("x-kubernetes-preserve-unknown-fields").is_none() => {
            for (name, value) in map {
                let inner = schema
                    .pointer("/properties")
                    .and_then(|properties| properties.get(name))
                    .or_else(|| schema.get("additionalProperties"));
                match inner {
                    Some(inner) => unknown(value, inner, &format!("{path}.{name}"), found),
                    None => found.push(format!("{path}.{name}")),
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                unknown(item, &schema["items"], &format!("{path}[]"), found);
            }
        }
        _ => {}
    }
}

/// What is wrong with an object of ours; nothing when all is well.
fn problem(object: &Value) -> Option<String> {
    fn parse<K: DeserializeOwned + kube::Resource>(object: &Value) -> Result<String, serde_json::Error> {
        serde_json::from_value::<K>(object.clone()).map(|object| object.name_any())
    }
    let kind = object["kind"].as_str().unwrap_or_default();
    let parsed = match kind {
        "AddressGroup" => parse::<AddressGroup>(object),
        "Flavor" => parse::<Flavor>(object),
        "FloatingIP" => parse::<FloatingIP>(object),
        "HostAggregate" => parse::<HostAggregate>(object),
        "Hypervisor" => parse::<Hypervisor>(object),
        "Image" => parse::<Image>(object),
        "Instance" => parse::<Instance>(object),
        "LoadBalancer" => parse::<LoadBalancer>(object),
        "Migration" => parse::<Migration>(object),
        "Network" => parse::<Network>(object),
        "Port" => parse::<Port>(object),
        "Project" => parse::<Project>(object),
        "Router" => parse::<Router>(object),
        "SecurityGroup" => parse::<SecurityGroup>(object),
        "ServerGroup" => parse::<ServerGroup>(object),
        "Volume" => parse::<Volume>(object),
        kind => return Some(format!("there is no kind {kind:?}")),
    };
    match parsed {
        Err(error) => return Some(format!("{kind}: {error}")),
        Ok(name) if name.is_empty() => return Some(format!("{kind}: metadata.name is missing")),
        Ok(_) => {}
    }
    let definition = definitions::all().into_iter().find(|crd| crd.spec.names.kind == kind)?;
    let schema = serde_json::to_value(&definition.spec.versions[0].schema).expect("a schema");
    let schema = &schema["openAPIV3Schema"];
    let mut found = Vec::new();
    for part in ["spec", "status"] {
        if let Some(value) = object.get(part) {
            unknown(value, &schema["properties"][part], part, &mut found);
        }
    }
    (!found.is_empty()).then(|| format!("{kind}: unknown fields {}", found.join(", ")))
}

/// The objects of ours in a text of YAML documents.
fn ours(text: &str, place: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(text);
    let values = documents.map(|document| {
        Value::deserialize(document)
            .unwrap_or_else(|error| panic!("{place} has an example that is no YAML: {error}\n{text}"))
    });
    let ours = |value: &Value| {
        value["apiVersion"]
            .as_str()
            .is_some_and(|group| group.starts_with(&format!("{GROUP}/")))
    };
    values.filter(ours).collect()
}

#[test]
fn every_example_of_the_documentation_is_an_object_of_the_api() {
    let (mut problems, mut count) = (Vec::new(), 0);
    for page in pages() {
        let place = page.display().to_string();
        for object in blocks(&read(&page), "yaml")
            .iter()
            .flat_map(|block| ours(block, &place))
        {
            count += 1;
            assert_eq!(object["apiVersion"], format!("{GROUP}/{VERSION}"), "{place}");
            problems.extend(problem(&object).map(|problem| format!("{place}: {problem}")));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(count > 10, "only {count} examples were found");
}

#[test]
fn every_sample_is_an_object_of_the_api() {
    let mut problems = Vec::new();
    let folders = ["config/samples", "config/ovn"].map(|folder| files(&checkout().join(folder), "yaml"));
    for sample in folders.into_iter().flatten() {
        if sample.ends_with("kustomization.yaml") {
            continue;
        }
        let place = sample.display().to_string();
        let objects = ours(&read(&sample), &place);
        assert!(!objects.is_empty(), "{place} has no object of ours");
        problems.extend(
            objects
                .iter()
                .filter_map(problem)
                .map(|problem| format!("{place}: {problem}")),
        );
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_link_between_pages_leads_to_a_file() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = read(&page);
        let folder = page.parent().expect("a file has a folder");
        // `](target)` of Markdown, and `src="target"` of the pictures.
        let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        let pictures = text.split("src=\"").skip(1).filter_map(|rest| rest.split_once('"'));
        for (link, _) in links.chain(pictures) {
            let file = link.split('#').next().unwrap_or_default();
            let outside = file.is_empty() || file.contains("://") || file.contains(char::is_whitespace);
            if !outside && !folder.join(file).exists() {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_field_that_the_api_does_not_have_is_found() {
    let object = serde_json::json!({
        "apiVersion": "virga.dev/v1alpha1", "kind": "Instance", "metadata": {"name": "web-1"},
        "spec": {"flavor": "m1.tiny", "interfaces": [{"network": "front", "securityGroup": "web"}], "metadata": {"any": "x"}},
    });
    assert_eq!(
        problem(&object).as_deref(),
        Some("Instance: unknown fields spec.interfaces[].securityGroup")
    );
    let object = serde_json::json!({"kind": "Volume", "metadata": {"name": "v"}, "spec": {"size": "much"}});
    assert!(problem(&object).is_some_and(|problem| problem.contains("quantity")));
}
