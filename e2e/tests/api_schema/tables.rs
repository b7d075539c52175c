//! Tables of objects: the right ones are taken as they are, each wrong one is refused with words that name the field and
//! the cure, and nothing is stored.

use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, ValidationDirective};
use kube::{Api, Error};
use serde::Deserialize;
use serde_json::{Value, json};
use virga_e2e::{Case, Cluster, with_temp_namespace};

#[derive(Deserialize)]
struct Accepted {
    kind: String,
    what: String,
    /// What is there already, for what may change.
    #[serde(default)]
    from: Option<Value>,
    spec: Value,
}

#[derive(Deserialize)]
struct Refused {
    kind: String,
    what: String,
    #[serde(default)]
    name: Option<String>,
    /// What is there already, for what must not change.
    #[serde(default)]
    from: Option<Value>,
    spec: Value,
    /// Words of the apiserver's answer.
    says: String,
}

const CLUSTER_WIDE: [&str; 4] = ["Project", "Flavor", "HostAggregate", "Hypervisor"];

fn rows<T: for<'a> Deserialize<'a>>(table: &str) -> Vec<T> {
    serde_yaml::from_str(table).unwrap()
}

struct Kind<'a> {
    case: &'a Case,
    name: &'a str,
}

impl Kind<'_> {
    fn api(&self) -> Api<DynamicObject> {
        let resource = ApiResource {
            group: "virga.dev".into(),
            version: "v1alpha1".into(),
            api_version: "virga.dev/v1alpha1".into(),
            kind: self.name.into(),
            plural: format!("{}s", self.name.to_lowercase()),
        };
        if CLUSTER_WIDE.contains(&self.name) {
            Api::all_with(self.case.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.case.client.clone(), &self.case.namespace, &resource)
        }
    }

    /// Server-side apply under strict validation, as `kubectl apply --server-side` does it.
    async fn apply(&self, name: &str, spec: &Value, dry_run: bool) -> Result<DynamicObject, Error> {
        let object = json!({
            "apiVersion": "virga.dev/v1alpha1",
            "kind": self.name,
            "metadata": {"name": name},
            "spec": spec,
        });
        let params = PatchParams {
            dry_run,
            force: true,
            field_manager: Some("e2e".into()),
            field_validation: Some(ValidationDirective::Strict),
        };
        self.api().patch(name, &params, &Patch::Apply(&object)).await
    }

    async fn refusal(&self, what: &str, name: &str, spec: &Value) -> String {
        match self.apply(name, spec, true).await {
            Err(Error::Api(status)) => status.message.clone(),
            Err(error) => panic!("{} with {what}: {error}", self.name),
            Ok(_) => panic!("{} with {what} is accepted", self.name),
        }
    }
}

#[tokio::test]
async fn what_is_right_is_taken() {
    with_temp_namespace(Cluster::api_only(), async |t| {
        for (n, row) in rows::<Accepted>(include_str!("accepted.yaml")).into_iter().enumerate() {
            let kind = Kind {
                case: &t,
                name: &row.kind,
            };
            let name = format!("right-{n}");
            if let Some(from) = &row.from {
                let made = kind.apply(&name, from, false).await;
                made.unwrap_or_else(|error| panic!("{} before {}: {error}", row.kind, row.what));
            }
            let taken = kind.apply(&name, &row.spec, true).await;
            let taken = taken.unwrap_or_else(|error| panic!("{} with {}: {error}", row.kind, row.what));
            // Nothing that was said is dropped.
            let dropped = missing(&row.spec, &taken.data["spec"]);
            assert!(
                dropped.is_empty(),
                "{} with {}: dropped {dropped:?}",
                row.kind,
                row.what
            );
        }
    })
    .await;
}

/// The paths that one has and the other lacks.
fn missing(wanted: &Value, found: &Value) -> Vec<String> {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => wanted
            .iter()
            .flat_map(|(key, value)| match found.get(key) {
                Some(inner) => missing(value, inner)
                    .into_iter()
                    .map(|path| format!("{key}.{path}"))
                    .collect(),
                None => vec![key.clone()],
            })
            .collect(),
        (Value::Array(wanted), Value::Array(found)) if wanted.len() == found.len() => wanted
            .iter()
            .zip(found)
            .flat_map(|(one, other)| missing(one, other))
            .collect(),
        (wanted, found) if wanted == found => Vec::new(),
        (wanted, found) => vec![format!("{wanted} became {found}")],
    }
}

#[tokio::test]
async fn what_can_never_be_right_is_refused_with_words_that_help() {
    with_temp_namespace(Cluster::api_only(), async |t| {
        for row in rows::<Refused>(include_str!("refused.yaml"))
            .iter()
            .filter(|row| row.from.is_none())
        {
            let kind = Kind {
                case: &t,
                name: &row.kind,
            };
            let name = row.name.as_deref().unwrap_or("wrong");
            let said = kind.refusal(&row.what, name, &row.spec).await;
            assert!(said.contains(&row.says), "{} with {}: {said}", row.kind, row.what);
        }
    })
    .await;
}

#[tokio::test]
async fn what_must_not_change_does_not_and_says_what_to_do_instead() {
    with_temp_namespace(Cluster::api_only(), async |t| {
        let table = rows::<Refused>(include_str!("refused.yaml"));
        for (n, row) in table.iter().enumerate() {
            let Some(from) = &row.from else { continue };
            let kind = Kind {
                case: &t,
                name: &row.kind,
            };
            let name = format!("{}-{n}", t.namespace);
            let made = kind.apply(&name, from, false).await;
            made.unwrap_or_else(|error| panic!("{} before {}: {error}", row.kind, row.what));
            let said = kind.refusal(&row.what, &name, &row.spec).await;
            assert!(said.contains(&row.says), "{} with {}: {said}", row.kind, row.what);
            if CLUSTER_WIDE.contains(&row.kind.as_str()) {
                kind.api()
                    .delete(&name, &kube::api::DeleteParams::default())
                    .await
                    .unwrap();
            }
        }
    })
    .await;
}

#[tokio::test]
async fn user_data_has_at_most_64_kib() {
    with_temp_namespace(Cluster::api_only(), async |t| {
        let kind = Kind { case: &t, name: "Instance" };
        let spec = |length: usize| json!({"flavor": "m1.small", "image": {"name": "a"}, "userData": {"inline": "x".repeat(length)}});
        kind.apply("right", &spec(65_536), true).await.unwrap();
        let said = kind.refusal("too much user data", "wrong", &spec(65_537)).await;
        assert!(said.contains("spec.userData.inline") && said.contains("65536"), "{said}");
    })
    .await;
}

#[tokio::test]
async fn lists_and_maps_have_a_maximum() {
    with_temp_namespace(Cluster::api_only(), async |t| {
        let kind = Kind {
            case: &t,
            name: "Instance",
        };
        let many = |count: usize, item: fn(usize) -> Value| -> Vec<Value> { (0..count).map(item).collect() };
        for (field, value) in [
            ("interfaces", json!(many(9, |n| json!({"network": format!("n{n}")})))),
            ("volumes", json!(many(17, |n| json!({"name": format!("v{n}")})))),
            ("sshKeys", json!(many(33, |n| json!(format!("ssh-ed25519 AAAA{n:04}"))))),
            (
                "metadata",
                Value::Object((0..65).map(|n| (format!("k{n}"), json!("v"))).collect()),
            ),
        ] {
            let mut spec = json!({"flavor": "m1.small", "image": {"name": "a"}});
            spec[field] = value;
            let said = kind.refusal(field, "wrong", &spec).await;
            assert!(
                said.contains(field) && said.contains("must have at most"),
                "{field}: {said}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn an_explicit_null_is_refused_and_never_taken_for_a_value() {
    with_temp_namespace(Cluster::api_only(), async |t| {
        let kind = Kind {
            case: &t,
            name: "Instance",
        };
        for (field, value) in [
            ("bootVolume", "string"),
            ("interfaces", "array"),
            ("userData", "object"),
        ] {
            let mut spec = json!({"flavor": "m1.small", "image": {"name": "a"}});
            spec[field] = Value::Null;
            let said = kind.refusal(field, "wrong", &spec).await;
            assert!(
                said.contains(&format!("spec.{field} in body must be of type {value}")),
                "{said}"
            );
        }
    })
    .await;
}
