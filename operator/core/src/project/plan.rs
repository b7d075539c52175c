use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::Namespace,
        rbac::v1::{RoleBinding, RoleRef, Subject},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use virga_crds::{
    Project, ProjectMember, ProjectRole, ProjectStatus, SubjectKind, conditions::Reason, finalizers, labels,
};

use crate::condition::{Conditions, Progress};

/// On a namespace: that a Project made it, and takes it away again.
pub const CREATED: &str = "virga.dev/created-by-project";

const RBAC: &str = "rbac.authorization.k8s.io";

/// What is there.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The namespace of the name that the project wants.
    pub namespace: Option<Namespace>,
    /// The project's role bindings in it, by name.
    pub bindings: BTreeMap<String, RoleBinding>,
    /// What of ours is in the namespace, but its default security group.
    pub inside: Vec<Inside>,
    /// Whether the namespace has a default security group.
    pub has_group: bool,
    /// Whether it lacks one, and should have it.
    pub wants_group: bool,
}

/// Objects of one kind in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inside {
    /// The kind.
    pub kind: &'static str,
    /// Their names, the first few.
    pub names: Vec<String>,
    /// How many there are.
    pub count: usize,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Set our finalizer.
    SetFinalizer,
    /// Make the namespace, or mark it as the project's.
    ApplyNamespace(Box<Namespace>),
    /// Make or change a role binding.
    ApplyBinding(Box<RoleBinding>),
    /// Make the namespace's default security group.
    MakeGroup(String),
    /// Take it away with the project.
    DeleteGroup(String),
    /// Take one away that has no member.
    DeleteBinding(String),
    /// Take away the namespace that the project made.
    DeleteNamespace(String),
    /// Give back the namespace that was there before the project: take our label off.
    ReleaseNamespace(String),
    /// Let the project go.
    RemoveFinalizer,
}

/// What to do, in order, and what to say.
pub fn plan(project: &Project, seen: &Seen, now: Timestamp) -> (Vec<Step>, ProjectStatus) {
    let old = project
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let mut conditions = Conditions::new(old, project.metadata.generation, now);
    let name = project.metadata.name.as_deref().unwrap_or_default();
    let namespace = project.spec.namespace.as_deref().unwrap_or(name);
    let owner = seen
        .namespace
        .as_ref()
        .and_then(|ns| ns.metadata.labels.as_ref()?.get(labels::PROJECT).cloned());
    let ours = owner.as_deref() == Some(name);
    let mut steps = Vec::new();
    let mut bound = None;
    if project.metadata.deletion_timestamp.is_some() {
        if seen.inside.is_empty() || !ours {
            steps = leave(project, seen, namespace, ours);
            conditions.set_ready(Progress::Working, Reason::Deleting, "nothing is inside any more");
        } else {
            bound = Some(namespace.to_owned());
            conditions.set_ready(Progress::Working, Reason::InUse, inside(namespace, &seen.inside));
        }
    } else if seen.namespace.is_some() && !ours {
        steps.extend(finalizer(project));
        let cure = match owner {
            Some(other) => format!("belongs to project {other}: choose another spec.namespace"),
            None => format!(
                "exists: label it {}={name} to hand it over, or choose another spec.namespace",
                labels::PROJECT
            ),
        };
        conditions.set_ready(
            Progress::Stuck,
            Reason::NamespaceConflict,
            format!("namespace {namespace} {cure}"),
        );
    } else {
        steps.extend(finalizer(project));
        if seen.namespace.is_none() {
            steps.push(Step::ApplyNamespace(Box::new(new_namespace(namespace, name))));
        }
        steps.extend(bindings(project, namespace, &seen.bindings));
        steps.extend(seen.wants_group.then(|| Step::MakeGroup(namespace.to_owned())));
        bound = Some(namespace.to_owned());
        conditions.set_ready(
            Progress::Done,
            Reason::AsSpecified,
            format!("namespace {namespace} is the project's"),
        );
    }
    let status = ProjectStatus {
        observed_generation: project.metadata.generation,
        namespace: bound,
        conditions: conditions.into_vec(),
    };
    (steps, status)
}

fn finalizer(project: &Project) -> Option<Step> {
    let held = project
        .metadata
        .finalizers
        .iter()
        .flatten()
        .any(|name| name == finalizers::CONTROLLER);
    (!held).then_some(Step::SetFinalizer)
}

fn leave(project: &Project, seen: &Seen, namespace: &str, ours: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Some(live) = seen.namespace.as_ref().filter(|_| ours) {
        steps.extend(seen.has_group.then(|| Step::DeleteGroup(namespace.to_owned())));
        let created = live
            .metadata
            .annotations
            .as_ref()
            .is_some_and(|a| a.contains_key(CREATED));
        if created {
            if live.metadata.deletion_timestamp.is_none() {
                steps.push(Step::DeleteNamespace(namespace.to_owned()));
            }
        } else {
            steps.extend(seen.bindings.keys().cloned().map(Step::DeleteBinding));
            steps.push(Step::ReleaseNamespace(namespace.to_owned()));
        }
    }
    if finalizer(project).is_none() {
        steps.push(Step::RemoveFinalizer);
    }
    steps
}

fn inside(namespace: &str, inside: &[Inside]) -> String {
    let kinds: Vec<_> = inside
        .iter()
        .map(|of| {
            let more = of.count - of.names.len();
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            format!("{} {} ({}{more})", of.count, of.kind, of.names.join(", "))
        })
        .collect();
    format!(
        "namespace {namespace} still has {}: delete them first",
        kinds.join("; ")
    )
}

fn new_namespace(namespace: &str, project: &str) -> Namespace {
    Namespace {
        metadata: ObjectMeta {
            name: Some(namespace.into()),
            labels: Some(BTreeMap::from([(labels::PROJECT.into(), project.into())])),
            annotations: Some(BTreeMap::from([(CREATED.into(), project.into())])),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}

fn bindings(project: &Project, namespace: &str, live: &BTreeMap<String, RoleBinding>) -> Vec<Step> {
    let mut steps = Vec::new();
    for role in [ProjectRole::Member, ProjectRole::Reader] {
        if let Some(binding) = role_binding(project, namespace, role) {
            steps.push(Step::ApplyBinding(Box::new(binding)));
        } else {
            let name = format!("virga-{}", role.as_str());
            steps.extend(live.contains_key(&name).then_some(Step::DeleteBinding(name)));
        }
    }
    steps
}

/// The binding of a role to the members that have it; `None` when nobody has.
pub fn role_binding(project: &Project, namespace: &str, role: ProjectRole) -> Option<RoleBinding> {
    let mut members: Vec<&ProjectMember> = project
        .spec
        .members
        .iter()
        .filter(|member| member.role == role)
        .collect();
    members.sort();
    if members.is_empty() {
        return None;
    }
    let name = format!("virga-{}", role.as_str());
    let label = project.metadata.name.clone().unwrap_or_default();
    Some(RoleBinding {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(namespace.into()),
            labels: Some(BTreeMap::from([(labels::PROJECT.into(), label)])),
            ..ObjectMeta::default()
        },
        role_ref: RoleRef {
            api_group: RBAC.into(),
            kind: "ClusterRole".into(),
            name,
        },
        subjects: Some(members.into_iter().map(|member| subject(member, namespace)).collect()),
    })
}

fn subject(member: &ProjectMember, namespace: &str) -> Subject {
    let (kind, group, namespace) = match member.kind {
        SubjectKind::User => ("User", Some(RBAC.into()), None),
        SubjectKind::Group => ("Group", Some(RBAC.into()), None),
        SubjectKind::ServiceAccount => ("ServiceAccount", None, Some(namespace.to_owned())),
    };
    Subject {
        kind: kind.into(),
        name: member.name.clone(),
        api_group: group,
        namespace,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use virga_crds::ProjectSpec;

    use super::*;

    fn project(deleting: bool) -> Project {
        let member = |name: &str, role| ProjectMember {
            kind: SubjectKind::Group,
            name: name.into(),
            role,
        };
        let members = vec![member("z", ProjectRole::Member), member("a", ProjectRole::Member)];
        let mut project = Project::new(
            "shop",
            ProjectSpec {
                members,
                ..ProjectSpec::default()
            },
        );
        project.metadata.finalizers = Some(vec![finalizers::CONTROLLER.into()]);
        project.metadata.deletion_timestamp = deleting.then_some(Time(Timestamp::UNIX_EPOCH));
        project
    }

    fn namespace(owner: Option<&str>, created: bool) -> Namespace {
        let mut namespace = new_namespace("shop", owner.unwrap_or_default());
        if owner.is_none() {
            namespace.metadata.labels = None;
        }
        if !created {
            namespace.metadata.annotations = None;
        }
        namespace
    }

    fn run(project: &Project, seen: &Seen) -> (Vec<Step>, String) {
        let (steps, status) = plan(project, seen, Timestamp::UNIX_EPOCH);
        (
            steps,
            format!("{}: {}", status.conditions[0].reason, status.conditions[0].message),
        )
    }

    #[test]
    fn a_new_project_gets_its_namespace_and_a_binding_for_each_role_that_somebody_has() {
        let (steps, said) = run(&project(false), &Seen::default());
        assert!(
            matches!(&steps[..], [Step::ApplyNamespace(_), Step::ApplyBinding(binding)]
            if binding.subjects.as_ref().unwrap()[0].name == "a")
        );
        assert!(said.starts_with("AsSpecified"));
    }

    #[test]
    fn a_namespace_is_taken_over_only_when_it_is_marked_for_the_project() {
        let seen = |owner| Seen {
            namespace: Some(namespace(owner, false)),
            ..Seen::default()
        };
        assert!(run(&project(false), &seen(Some("shop"))).1.starts_with("AsSpecified"));
        assert!(
            run(&project(false), &seen(None))
                .1
                .contains("label it virga.dev/project=shop")
        );
        assert!(
            run(&project(false), &seen(Some("blog")))
                .1
                .contains("belongs to project blog")
        );
    }

    #[test]
    fn deletion_waits_for_what_is_inside_and_names_it() {
        let inside = vec![Inside {
            kind: "Instances",
            names: vec!["web-1".into()],
            count: 3,
        }];
        let seen = Seen {
            namespace: Some(namespace(Some("shop"), true)),
            inside,
            ..Seen::default()
        };
        let (steps, said) = run(&project(true), &seen);
        assert_eq!(steps, []);
        assert!(said.contains("still has 3 Instances (web-1 and 2 more)"), "{said}");
    }

    #[test]
    fn only_a_namespace_that_the_project_made_is_deleted_with_it() {
        let of = |created| {
            run(
                &project(true),
                &Seen {
                    namespace: Some(namespace(Some("shop"), created)),
                    ..Seen::default()
                },
            )
            .0
        };
        assert_eq!(of(true), [Step::DeleteNamespace("shop".into()), Step::RemoveFinalizer]);
        assert_eq!(
            of(false),
            [Step::ReleaseNamespace("shop".into()), Step::RemoveFinalizer]
        );
    }
}
